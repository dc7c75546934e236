// Package preempt turns what the clouds say about a VM's end into one Notice.
//
// One pure decoder per source, its payloads on disk in testdata; metadata/
// polls the same facts from inside the VM.
package preempt

import "time"

// Kind says what a notice means.
type Kind string

const (
	// Interruption: the cloud takes the VM at Deadline. Dooms the VM.
	Interruption Kind = "interruption"
	// Rebalance: the VM is at elevated risk. Save now, doom nothing.
	Rebalance Kind = "rebalance"
	// Going: the VM is shutting down or stopping. Dooms; does not move the writer.
	Going Kind = "going"
	// Gone: the VM is terminated, by the cloud's explicit word.
	Gone Kind = "gone"
	// Impaired: the cloud says that the VM or its host does not work.
	Impaired Kind = "impaired"
)

// Notice is a warning or proof of loss of one VM.
type Notice struct {
	VMID     string    `json:"vm_id"`
	Kind     Kind      `json:"kind"`
	Deadline time.Time `json:"deadline,omitzero"` // when the VM is taken; zero if not said
	At       time.Time `json:"at"`                // when the cloud said so
	Source   string    `json:"source"`            // decoder or driver that produced it
	Drill    bool      `json:"drill,omitempty"`   // asked for by the user: no pool is blamed
}

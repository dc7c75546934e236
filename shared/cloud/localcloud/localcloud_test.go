//go:build linux

package localcloud

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anycloud/shared/cloud/cloudtest"
	"anycloud/shared/cloud/localcloud/vmdir"
	"anycloud/shared/preempt/metadata"
)

func setFaults(t *testing.T, root string, f Faults) {
	t.Helper()
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "faults.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSuite(t *testing.T) {
	for name, plain := range map[string]bool{"namespace": false, "plain": true} {
		t.Run(name, func(t *testing.T) {
			cloudtest.Run(t, func(t *testing.T) *cloudtest.Fixture {
				t.Parallel()
				root := filepath.Join(t.TempDir(), "vms")
				c := open(t, Options{Root: root, NoNamespace: plain})
				other := open(t, Options{Root: root, Stack: "other", NoNamespace: plain})
				var f Faults
				return &cloudtest.Fixture{
					Cloud: c, Other: other, Machine: machineSpec,
					Wait:  func() { time.Sleep(10 * time.Millisecond) },
					Tries: 2000,
					Proof: func(t *testing.T, id string) string {
						url, err := os.ReadFile(c.dir(id).Path("metadata.url"))
						if err != nil {
							t.Fatal(err)
						}
						proof, err := metadata.Local(string(url)).Identity(t.Context())
						if err != nil {
							t.Fatal(err)
						}
						return proof
					},
					Full: func(t *testing.T, zones ...string) {
						f.NoCapacity = zones
						setFaults(t, root, f)
					},
					Unanswer: func(t *testing.T, on bool) {
						f.UnansweredEvery = map[bool]int{true: 1}[on]
						setFaults(t, root, f)
					},
					Throttle: func(t *testing.T, on bool) {
						f.ThrottleEvery = map[bool]int{true: 1}[on]
						setFaults(t, root, f)
					},
					Quota: func(t *testing.T, n int) {
						f.Quota = n
						setFaults(t, root, f)
					},
					Drill: 300 * time.Millisecond,
				}
			})
		})
	}
}

// TestNothingLeft: an ended VM leaves a tombstone for an hour, then nothing.
func TestNothingLeft(t *testing.T) {
	now := time.Now()
	c := open(t, Options{Now: func() time.Time { return now }})
	id := c.launch(t, "a").ID
	p := c.process(t, id)
	if err := c.Terminate(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	until(t, "its directory is gone", func() bool {
		m, _ := filepath.Glob(filepath.Join(c.o.Root, "*"+id+"*"))
		d, _ := filepath.Glob(filepath.Join(c.o.Root, ".*"))
		return len(m)+len(d) == 0
	})
	if p.Alive() {
		t.Error("its machine process lives")
	}
	if vms, _, err := c.List(t.Context(), ""); err != nil || len(vms) != 1 {
		t.Errorf("listed %+v, %v", vms, err)
	}
	now = now.Add(shown + time.Second)
	if vms, _, err := c.List(t.Context(), ""); err != nil || len(vms) != 0 {
		t.Errorf("an hour later: %+v, %v", vms, err)
	}
	if m, _ := filepath.Glob(filepath.Join(c.endedDir(), "*")); len(m) != 0 {
		t.Errorf("left: %q", m)
	}
}

// TestSpoiltDirectory: what cannot be read hides no other VM.
func TestSpoiltDirectory(t *testing.T) {
	c := open(t, Options{})
	id := c.launch(t, "a").ID
	for name, text := range map[string]string{"i-local-aaaaaaaaaaaa": "{", "i-local-bbbbbbbbbbbb": `{"format":99}`, "i-local-cccccccccccc": ""} {
		if err := os.Mkdir(filepath.Join(c.o.Root, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(c.o.Root, name, "vm.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if vms, _, err := c.List(t.Context(), ""); err != nil || len(vms) != 1 || vms[0].ID != id {
		t.Errorf("listed %+v, %v", vms, err)
	}
	if _, err := c.Describe(t.Context(), "i-local-bbbbbbbbbbbb"); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("a newer format: %v", err)
	}
}

// TestProcessIdentity: a pid alone says nothing.
func TestProcessIdentity(t *testing.T) {
	c := open(t, Options{})
	self, err := vmdir.Self()
	if err != nil || !self.Alive() {
		t.Fatalf("self: %+v, %v", self, err)
	}
	reused, rebooted := self, self
	reused.Start++
	rebooted.Boot = "another"
	for _, p := range []vmdir.Process{reused, rebooted} {
		if p.Alive() {
			t.Errorf("%+v is alive", p)
		}
		if err := p.Kill(); err != nil { // and we survive it
			t.Errorf("kill: %v", err)
		}
	}
	// A VM whose pid is someone else's by now is dead, and its end hurts nobody.
	id := c.launch(t, "a").ID
	p := c.process(t, id)
	if err := p.Kill(); err != nil || !p.AwaitDead(5*time.Second) {
		t.Fatal("not dead")
	}
	if err := vmdir.Write(c.dir(id).Path("machine.json"), reused); err != nil {
		t.Fatal(err)
	}
	c.await(t, id, "terminated")
}

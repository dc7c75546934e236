package cloudtest

import (
	"strings"
	"testing"

	"anycloud/shared/cloud"
)

func testProof(t *testing.T, f *Fixture) {
	a, b := f.running(t, 1), f.running(t, 2)
	for _, vm := range []cloud.VM{a, b} {
		id, err := f.Cloud.VerifyProof(t.Context(), f.Proof(t, vm.ID))
		if err != nil || id != vm.ID {
			t.Fatalf("proof of %s: %q, %v", vm.ID, id, err)
		}
	}
	proof := f.Proof(t, a.ID)
	forged := []string{"", "x", ":", "::", "fake:", "local:", "local:" + a.ID, "aws:" + a.ID, proof + " ", proof[1:], strings.ToUpper(proof), "fake:i-nobody"}
	// Where a proof says more than an id, one VM's does not do for another.
	if swapped := strings.ReplaceAll(proof, a.ID, b.ID); swapped != f.Proof(t, b.ID) {
		forged = append(forged, swapped, proof[:len(proof)-1])
	}
	for _, p := range forged {
		id, err := f.Cloud.VerifyProof(t.Context(), p)
		wantErr(t, "proof "+p+" of "+id, err, cloud.ErrBadProof)
	}
}

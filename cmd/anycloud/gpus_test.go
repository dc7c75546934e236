package main

import (
	"strings"
	"testing"

	"anycloud/shared/catalog"
)

func TestGPUs(t *testing.T) {
	c := newCLI(t)
	head, _, _ := strings.Cut(c.ok("gpus", "a100", "--cloud", "aws"), "\n")
	if strings.Join(strings.Fields(head), " ") != "GPU COUNT GPU MEMORY CLOUD TYPE VCPUS MEMORY ARCH USD/H" {
		t.Errorf("head %q", head)
	}
	for args, want := range map[string]string{"a100 --cloud aws": "p4d.24xlarge", "a100-80gb:8 --cloud azure": "Standard_ND96", "t4:1": "g4dn.xlarge", "": "h100"} {
		if out := c.ok(append([]string{"gpus"}, strings.Fields(args)...)...); !strings.Contains(out, want) {
			t.Errorf("%s: no %s in\n%s", args, want, out)
		}
	}
	var machines []catalog.Machine
	c.json(&machines, "gpus", "a100:4", "--cloud", "gcp")
	if len(machines) == 0 || machines[0].Type != "a2-highgpu-4g" || machines[0].GPUs != 4 || machines[0].USDPerHour <= 0 {
		t.Errorf("%+v", machines)
	}
	if _, errText, _ := c.run("gpus", "h100"); !strings.Contains(errText, catalog.AsOf) {
		t.Errorf("the prices' date is missing: %q", errText)
	}
	c.fails(exitUsage, "did you mean a100?", "gpus", "a1000")
	c.fails(exitUsage, "write for example", "gpus", "A 100")
	c.fails(exitUsage, "h100:all shows those that there are", "gpus", "h100:64")
	c.fails(exitUsage, "it has aws, azure, gcp", "gpus", "--cloud", "moon")
}

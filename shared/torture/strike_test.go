package torture

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// process is one process of a home, as /proc shows it.
type process struct {
	pid  int
	args []string
	vm   string // the VM that it belongs to
}

// processes lists what runs because of this home: its directory is in the
// command line or the environment, or the environment names a job of it.
func (h *home) processes() []process {
	entries, _ := os.ReadDir("/proc")
	var ps []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		environ, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if len(cmdline) == 0 || !h.mine(string(cmdline), string(environ)) {
			continue
		}
		p := process{pid: pid, args: strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00")}
		if h.server != nil && pid == h.server.Process.Pid {
			continue
		}
		for _, kv := range strings.Split(string(environ), "\x00") {
			if id, ok := strings.CutPrefix(kv, "ANYCLOUD_VM_ID="); ok {
				p.vm = id
			}
		}
		ps = append(ps, p)
	}
	return ps
}

func (h *home) mine(cmdline, environ string) bool {
	if strings.Contains(cmdline+environ, h.dir) {
		return true
	}
	for _, id := range h.ids {
		if strings.Contains(environ, "ANYCLOUD_JOB_ID="+id) {
			return true
		}
	}
	return false
}

// victims are the processes of a kind: the VM itself, its agent, or the
// container's program.
func (h *home) victims(kind string) []int {
	var pids []int
	for _, p := range h.processes() {
		program := filepath.Base(p.args[0])
		sub := ""
		if len(p.args) > 1 {
			sub = p.args[1]
		}
		switch {
		case kind == "vm" && program == "anycloud-agent" && sub == "vm",
			kind == "agent" && program == "anycloud-agent" && sub == "run",
			kind == "container" && program == "digits":
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// strike does one act of violence and says which.
func (h *home) strike(rng *rand.Rand, id string) string {
	kind := []string{"control plane", "agent", "container", "vm", "warned", "unwarned"}[rng.IntN(6)]
	switch kind {
	case "control plane":
		h.killServe()
		if rng.IntN(2) == 0 {
			h.serve()
		} // else it stays down for a while
	case "agent", "container", "vm":
		pids := h.victims(kind)
		if len(pids) == 0 {
			return kind + " (none there)"
		}
		syscall.Kill(pids[rng.IntN(len(pids))], syscall.SIGKILL) //nolint:errcheck // it may have ended by itself
	case "warned":
		if _, code := h.run("preempt", id, "--notice", fmt.Sprintf("%ds", 3+rng.IntN(4))); code != 0 {
			return "warned (none there)"
		}
	case "unwarned":
		if _, code := h.run("preempt", id, "--notice", "0s"); code != 0 {
			return "unwarned (none there)"
		}
	}
	return kind
}

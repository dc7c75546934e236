package torture

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

var (
	rounds = flag.Int("rounds", 1, "rounds of jobs under kills")
	seed   = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the kills")
)

// TestTorture runs jobs while SIGKILL strikes the control plane, an agent, a
// container or a VM at random moments, between warned and unwarned preemptions.
// Every job must end succeeded with an undisturbed run's result, and nothing may
// be left behind.
func TestTorture(t *testing.T) {
	rng := rand.New(rand.NewPCG(*seed, 1))
	t.Logf("seed %d (replay the choices with -seed)", *seed)
	bin := build(t)
	want := undisturbed(t, bin)
	hits := map[string]int{}
	for n := range *rounds {
		docker := n%2 == 1 && dockerAnswers()
		name := fmt.Sprintf("round %d, exec", n+1)
		if docker {
			name = fmt.Sprintf("round %d, docker", n+1)
		}
		if !t.Run(name, func(t *testing.T) { round(t, rng, bin, want, docker, hits) }) {
			break
		}
	}
	t.Logf("struck: %v", hits)
}

// The jobs of a round work for about this many epochs of this length.
const (
	epochs    = 60
	epochTime = "100ms"
	jobs      = 2
)

func round(t *testing.T, rng *rand.Rand, bin, want string, docker bool, hits map[string]int) {
	h := newHome(t, bin)
	h.serve()
	image, command := "exec:", []string{bin + "/digits"}
	if docker {
		image, command = buildImage(t, bin), nil
	}
	command = append(command, "-epochs", fmt.Sprint(epochs), "-epoch-time", epochTime)
	var ids []string
	for n := range jobs {
		args := append([]string{"submit", "--spot", "--name", fmt.Sprintf("torture-%d", n), "--checkpoint-interval", "1s",
			"--grace", "2s", "--retries", "100", image, "--"}, command...)
		ids = append(ids, strings.TrimSpace(h.must(args...)))
	}
	h.ids = ids
	// Strike until the jobs have ended, at most 8 times, so that they can end.
	for range 8 {
		if !h.sleepWhileRunning(time.Duration(300+rng.IntN(2700))*time.Millisecond, ids) {
			break
		}
		what := h.strike(rng, ids[rng.IntN(len(ids))])
		hits[what]++
	}
	h.ensureServe()
	for _, id := range ids {
		if out, code := h.run("wait", id, "--timeout", "180s"); code != 0 {
			t.Fatalf("wait %s: exit %d %s\n%s\n%s", id, code, out, h.must("status", id), h.tail())
		}
		h.checkResult(id, want)
		h.checkSeconds(id)
	}
	h.checkNothingLeft(ids)
}

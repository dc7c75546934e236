package sim

import ("testing";"os";"fmt";"strconv")

func TestDbg(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("SEED"))
	dbg = func(w *world) {
		for _, id := range w.jobs { j := w.rows[id]
			fmt.Println("JOB", id, j.State, "attempt", j.Attempt, "writer", j.Writer, "spot", j.Spec.Spot, "orders")
			for _, a := range j.Attempts { fmt.Println("  ", a.Number, a.VMID, "start", a.StartedAt.Sub(epoch), "end", a.EndedAt.Sub(epoch), a.EndReason, "gone", a.Gone, "doomed", a.Doomed, "sealed", a.Sealed, "exited", a.Exited, a.Notice, "heard", a.LastHeard.Sub(epoch)) }
			fmt.Println("  doomed", j.Doomed, "others", j.Others, "ckpt", j.Checkpoint)
		}
		for _, v := range w.cloud.All() { fmt.Println("VM", v.ID, v.Job, v.Attempt, v.Launch, "created", v.Created.Sub(epoch), "ends", v.Ends.Sub(epoch), v.EndedBy, "termcalled", v.TerminateCalled.Sub(epoch)) }
	}
	r := Run(uint64(n), Options{Log: os.Stdout})
	fmt.Println(r.Broken, r.Steps)
}

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// row is a line of the table.
type row struct {
	work, tool string
	cost
	bytes  int64   // that were worked on, for CPU-s per GiB; 0: not told
	times  float64 // how many times slower than ours; 0: ours
	target string  // what is wanted, and whether it is so
	met    bool
}

type table struct{ rows []row }

func mib(n int64) string {
	switch {
	case n < 100<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 100<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
}

func seconds(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.0f ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

func (tb table) markdown() string {
	var b strings.Builder
	b.WriteString("| work | program | time | against ours | CPU-s per GiB | sent | requests | peak memory | target |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range tb.rows {
		times, perGiB, target, rss := "", "", r.target, ""
		if r.times > 0 {
			times = fmt.Sprintf("%.1f×", r.times)
		}
		if r.bytes > 0 {
			perGiB = fmt.Sprintf("%.2f", r.cpu.Seconds()/(float64(r.bytes)/(1<<30)))
		}
		if r.rss > 0 {
			rss = mib(r.rss)
		}
		if target != "" && !r.met {
			target += " (**missed**)"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %d | %s | %s |\n", r.work, r.tool, seconds(r.took), times, perGiB, mib(r.sent), r.requests, rss, target)
	}
	return b.String()
}

// machine says what it was measured on.
func machine() string {
	var u unix.Sysinfo_t
	if err := unix.Sysinfo(&u); err != nil {
		return fmt.Sprintf("%d cores", runtime.NumCPU())
	}
	return fmt.Sprintf("%d cores, %d GiB of memory", runtime.NumCPU(), (u.Totalram*uint64(u.Unit)+1<<29)>>30)
}

// The table stands between these lines of the document.
const (
	beginMark = "<!-- bench-checkpoint: begin -->"
	endMark   = "<!-- bench-checkpoint: end -->"
)

// into writes text between the marks of a document.
func into(path, text string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(b), beginMark+"\n")
	_, tail, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no place for the table", path)
	}
	return os.WriteFile(path, []byte(head+beginMark+"\n"+text+endMark+tail), 0o644)
}

func TestTableGoesBetweenItsMarks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "doc.md")
	text := "a\n" + beginMark + "\nold\n" + endMark + "\nb\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	tb := table{[]row{{work: "w", tool: "x", target: "less", cost: cost{took: 1500 * time.Millisecond, cpu: time.Second, sent: 3 << 20, requests: 2}, bytes: 1 << 30, times: 2}}}
	for range 2 {
		if err := into(path, tb.markdown()); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := "a\n" + beginMark + "\n| work | program | time | against ours | CPU-s per GiB | sent | requests | peak memory | target |\n|---|---|---|---|---|---|---|---|---|\n" +
		"| w | x | 1.5 s | 2.0× | 1.00 | 3.0 MiB | 2 |  | less (**missed**) |\n" + endMark + "\nb\n"
	if string(b) != want {
		t.Errorf("%s", b)
	}
	if into(filepath.Join(t.TempDir(), "none"), "") == nil {
		t.Error("a document that is not there was written")
	}
}

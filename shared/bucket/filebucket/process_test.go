package filebucket

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"anycloud/shared/bucket"
)

// The test binary is also the other process: these variables tell it its role.
const (
	roleEnv = "FILEBUCKET_TEST_ROLE"
	dirEnv  = "FILEBUCKET_TEST_DIR"
)

const entries = 40

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "racer":
		race(os.Getenv(dirEnv))
	case "slow put":
		slowPut(os.Getenv(dirEnv))
	default:
		os.Exit(m.Run())
	}
}

// child starts this binary in a role.
func child(t *testing.T, role, dir string) (*exec.Cmd, *bufio.Reader, io.WriteCloser) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"="+role, dirEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	return cmd, bufio.NewReader(out), in
}

// race puts every entry once its input says so and prints those it won.
func race(dir string) {
	o, err := Open(dir)
	if err != nil {
		panic(err)
	}
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')
	for n := range entries {
		key := fmt.Sprintf("log/%d/%010d", n%3, n)
		err := o.PutIfAbsent(context.Background(), key, fmt.Append(nil, os.Getpid()))
		switch {
		case err == nil:
			fmt.Println("won", key)
		case !errors.Is(err, bucket.ErrExists):
			panic(err)
		}
	}
}

func TestProcessesRace(t *testing.T) {
	dir := t.TempDir()
	const racers = 4
	var outs []*bufio.Reader
	var ins []io.WriteCloser
	var cmds []*exec.Cmd
	for range racers {
		cmd, out, in := child(t, "racer", dir)
		if _, err := out.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		cmds, outs, ins = append(cmds, cmd), append(outs, out), append(ins, in)
	}
	for _, in := range ins {
		fmt.Fprintln(in, "go")
	}
	winner := map[string]int{}
	for i, out := range outs {
		b, err := io.ReadAll(out)
		if err != nil {
			t.Fatal(err)
		}
		if err := cmds[i].Wait(); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			key := strings.TrimSpace(strings.TrimPrefix(line, "won "))
			if winner[key] != 0 {
				t.Errorf("%s was won twice", key)
			}
			winner[key] = cmds[i].Process.Pid
		}
	}
	if len(winner) != entries {
		t.Fatalf("%d of %d entries won", len(winner), entries)
	}
	for key, pid := range winner {
		b, err := os.ReadFile(filepath.Join(dir, key))
		if err != nil || string(b) != fmt.Sprint(pid) {
			t.Errorf("%s holds %q, %v; won by %d", key, b, err, pid)
		}
	}
	if left, _ := os.ReadDir(filepath.Join(dir, tmpDir)); len(left) > 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

// slowPut gets stuck in the middle of an object.
func slowPut(dir string) {
	o, err := Open(dir)
	if err != nil {
		panic(err)
	}
	half := io.MultiReader(strings.NewReader(strings.Repeat("x", 1<<20)), stuck{})
	err = o.Put(context.Background(), "old", half, 2<<20)
	fmt.Println("put ended:", err)
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) {
	fmt.Println("half")
	select {}
}

func TestKilledPutLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	o := open(t, dir)
	if err := o.Put(t.Context(), "old", strings.NewReader("stays"), 5); err != nil {
		t.Fatal(err)
	}
	cmd, out, _ := child(t, "slow put", dir)
	if line, err := out.ReadString('\n'); err != nil || line != "half\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if left, _ := os.ReadDir(filepath.Join(dir, tmpDir)); len(left) != 1 {
		t.Fatalf("the kill came too early or too late: %v", left)
	}
	page, _, err := o.List(t.Context(), "", "", 0)
	if err != nil || len(page) != 1 || page[0].Key != "old" || page[0].Size != 5 {
		t.Fatalf("list: %+v, %v", page, err)
	}
}

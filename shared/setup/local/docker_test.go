package local_test

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	"anycloud/shared/internal/suite"
	"anycloud/shared/internal/testimage"
	"anycloud/shared/job"
)

// image makes one for the test, under a name that nothing else has.
func image(t *testing.T) string {
	name := "anycloud-test/promises:" + strings.ToLower(rand.Text())
	testimage.Busybox(t, name)
	return name
}

// TestContainer: what a container sees, and how it comes through a loss.
func TestContainer(t *testing.T) {
	t.Parallel()
	img := image(t)
	b := newBox(t).serve()
	in, out := filepath.Join(b.home, "in"), filepath.Join(b.home, "out")
	b.file(filepath.Join(in, "words"), "alpha")
	secret := b.file(filepath.Join(b.home, "secret"), "s3cret\n")
	script := `test "$(cat /mnt/input/words)" = alpha && ! touch /mnt/input/x 2>/dev/null || exit 10
		test "$ANYCLOUD_CHECKPOINT_DIR" = /mnt/checkpoint && test "$ANYCLOUD_OUTPUT_DIR" = /mnt/output || exit 11
		test "$KEY" = s3cret && test "$PLAIN" = "a b" && test "$(pwd)" = /tmp || exit 12
		n=$(cat /mnt/checkpoint/n 2>/dev/null || echo 0)
		while test $n -lt 30; do n=$((n+1)); echo $n >> /mnt/output/results; echo $n > /mnt/checkpoint/n; echo at $n; sleep 0.1; done`
	id := b.submit("--spot", "--input", "file://"+in, "--output", "file://"+out, "--secret", "KEY=file:"+secret, "-e", "PLAIN=a b", "--workdir", "/tmp", img, "--", "sh", "-c", script)
	b.logs(id, "at 8")
	b.must("preempt", id, "--notice", "5s")
	b.ends(id, job.Succeeded, "")
	j := b.status(id)
	if j.Preemptions != 1 || j.LostSeconds != 0 {
		t.Errorf("preemptions %d, lost %g s", j.Preemptions, j.LostSeconds)
	}
	var want strings.Builder
	for n := 1; n <= 30; n++ {
		fmt.Fprintln(&want, n)
	}
	if got := b.read(filepath.Join(out, "results")); got != want.String() {
		t.Errorf("results:\n%s", got)
	}
	b.nothingLeft(id)
	// What the user would see of a wrong command and of too little memory.
	missing := b.submit(img, "--", "no-such-program")
	b.ends(missing, job.Failed, job.ReasonCommandNotFound)
	hungry := b.submit("--memory", "16MiB", img, "--", "sh", "-c", `x=0123456789abcdef; while :; do x=$x$x; done`)
	b.ends(hungry, job.Failed, job.ReasonOutOfMemory)
}

// TestContainerLife: the bucket and the VM kept, resubmitted from what was kept,
// and an on-demand container begun again.
func TestContainerLife(t *testing.T) {
	t.Parallel()
	img := image(t)
	b := newBox(t).serve()
	// Modes, times, links, holes: all that a listing shows.
	script := `cd /mnt/checkpoint; look() { ls -lAnR --full-time . | grep -v ^total; }
		if ! test -e f; then mkdir -p empty/dir; echo 1 > f; ln -s f link; chmod 640 f; touch -d '2001-09-09 01:46:40' f; fi; look`
	id := b.submit("--spot", "--persist-bucket", "--persist", img, "--", "sh", "-c", script)
	b.ends(id, job.Succeeded, "")
	if j := b.status(id); len(j.Kept) != 1 {
		t.Errorf("kept: %+v", j.Kept)
	}
	b.must("cancel", id)
	b.until(20*time.Second, "the VM's end", func() bool { return len(b.status(id).Kept) == 0 && len(b.status(id).Doomed) == 0 })
	before := b.must("logs", id)
	b.must("resubmit", id)
	b.until(20*time.Second, "the second run's end", func() bool { j := b.status(id); return j.State.Terminal() && j.Attempt == 2 })
	if after := b.must("logs", id); after != before+before || strings.Count(before, "\n") < 6 {
		t.Errorf("left:\n%s\nfound:\n%s", before, strings.TrimPrefix(after, before))
	}
	b.must("cancel", id)

	again := b.submit("--restart-on-loss", img, "--", "sh", "-c", "echo begun; sleep 2")
	b.logs(again, "begun")
	b.must("preempt", again, "--notice", "0s")
	b.ends(again, job.Succeeded, "")
	if log := b.must("logs", again); log != "begun\nbegun\n" {
		t.Errorf("log %q", log)
	}
	b.until(20*time.Second, "the VM's end", func() bool { return len(b.status(id).Kept) == 0 && len(b.status(id).Doomed) == 0 })
	if dirs, _ := filepath.Glob(filepath.Join(b.home, "vms", "i-*")); len(dirs) > 0 {
		t.Errorf("VMs are left: %v", dirs)
	}
}

// password of the test's registry, and its bcrypt hash (htpasswd -nbB).
const (
	password     = "wonder: horse"
	passwordHash = "acme:$2y$05$/u2dKDUBVje5KYlX33XdYuk5m0UrRzxYi6ldQk.MiMk9FMW7ap9DK"
)

// privateRegistry starts a registry that wants the password.
func privateRegistry(b *box) (host string) {
	b.Helper()
	suite.Need(b, "registry")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	host = l.Addr().String()
	l.Close()
	dir := b.TempDir()
	config := b.file(filepath.Join(dir, "config.yml"), fmt.Sprintf(`version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: %s}}
http: {addr: %q}
auth: {htpasswd: {realm: test, path: %s}}
`, filepath.Join(dir, "data"), host, b.file(filepath.Join(dir, "htpasswd"), passwordHash+"\n")))
	cmd := exec.Command("docker-registry", "serve", config)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // Wait tells
		cmd.Wait()         //nolint:errcheck // it was killed
	})
	b.until(15*time.Second, "the registry", func() bool {
		resp, err := http.Get("http://" + host + "/v2/")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusUnauthorized
	})
	return host
}

// TestPrivateImage: pulled with credentials that are resolved on the VM, refused
// without, and nowhere to be read afterwards.
func TestPrivateImage(t *testing.T) {
	t.Parallel()
	img := image(t)
	b := newBox(t).serve()
	host := privateRegistry(b)
	private := host + "/acme/my-training:latest"
	cli := testimage.Client(t)
	auth, err := authconfig.Encode(registry.AuthConfig{Username: "acme", Password: password})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cli.ImageTag(t.Context(), client.ImageTagOptions{Source: img, Target: private}); err != nil {
		t.Fatal(err)
	}
	push, err := cli.ImagePush(t.Context(), private, client.ImagePushOptions{RegistryAuth: auth})
	if err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(push)
	push.Close()
	if err != nil || strings.Contains(string(said), "errorDetail") {
		t.Fatalf("push: %v %s", err, said)
	}
	forget := func() {
		if _, err := cli.ImageRemove(t.Context(), private, client.ImageRemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	forget()
	denied := b.submit(private, "--", "true")
	b.ends(denied, job.Failed, job.ReasonImageDenied)
	wrong := b.submit("--registry-auth", "file:"+b.file(filepath.Join(b.home, "wrong"), "acme:guess"), private, "--", "true")
	b.ends(wrong, job.Failed, job.ReasonImageDenied)
	b.fails(2, "no source", "submit", "--registry-auth", "acme:"+password, private)

	plain := b.file(filepath.Join(b.home, "plain"), "acme:"+password+"\n")
	token := base64.StdEncoding.EncodeToString([]byte("acme:" + password))
	config := b.file(filepath.Join(b.home, "config.json"), `{"auths":{"other.example":{"auth":"eDp5"},"`+host+`":{"auth":"`+token+`"}}}`)
	for _, source := range []string{plain, config} {
		id := b.submit("--spot", "--registry-auth", "file:"+source, private, "--", "echo", "pulled")
		b.ends(id, job.Succeeded, "")
		if out := b.must("logs", id); out != "pulled\n" {
			t.Errorf("log %q", out)
		}
		for _, out := range []string{b.must("status", id, "--json"), b.read(filepath.Join(b.home, "table.db"))} {
			if strings.Contains(out, password) || strings.Contains(out, token) {
				t.Error("the password is shown or stored")
			}
		}
		forget()
	}
	none := b.submit("--registry-auth", "file:"+b.file(filepath.Join(b.home, "none"), `{"auths":{}}`), private, "--", "true")
	b.ends(none, job.Failed, job.ReasonSecretFailed)
	if j := b.status(none); !strings.Contains(j.Message, "no entry for "+host) {
		t.Errorf("message %q", j.Message)
	}
}

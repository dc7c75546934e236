package repotest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"anycloud/shared/internal/suite"
)

// root is the directory of go.mod, above the one that tests run in.
var root = filepath.Join("..", "..", "..")

var repository = sync.OnceValues(func() (*tree, error) { return load(os.DirFS(root)) })

// hold fails the test with each violation that the check finds in this tree.
func hold(t *testing.T, check func(*tree) []violation) {
	t.Helper()
	tr, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	bad := check(tr)
	slices.SortFunc(bad, func(a, b violation) int { return strings.Compare(a.String(), b.String()) })
	for _, v := range bad {
		t.Error(v)
	}
}

func TestImportTable(t *testing.T) {
	hold(t, func(tr *tree) []violation { return checkImports(tr, importTable) })
}

func TestBinariesLinkOnlyWhatTheyCall(t *testing.T) {
	hold(t, func(tr *tree) []violation { return checkBinaries(tr, binaries) })
}

func TestPackageCommentsAndFileLengths(t *testing.T) { hold(t, checkFiles) }

func TestNoPathsOfOneMachine(t *testing.T) { hold(t, checkMachine) }

func TestDecisionsAreShort(t *testing.T) { hold(t, checkDecisions) }

func TestReadmeMapsTheTree(t *testing.T) { hold(t, checkMap) }

func TestDocumentsNameWhatExists(t *testing.T) { hold(t, checkDocs) }

// TestScripts has ShellCheck read every file that begins as a shell script.
func TestScripts(t *testing.T) {
	suite.Need(t, "shellcheck")
	tr, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	for p, f := range tr.files {
		first, _, _ := strings.Cut(f.text, "\n")
		if !strings.HasPrefix(first, "#!") || !strings.HasSuffix(first, "sh") {
			continue
		}
		if out, err := exec.Command("shellcheck", filepath.Join(root, p)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", p, err, out)
		}
	}
}

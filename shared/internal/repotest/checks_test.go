package repotest

import (
	"strings"
	"testing"
	"testing/fstest"
)

// small makes a tree of the files.
func small(t *testing.T, files map[string]string) *tree {
	t.Helper()
	m := fstest.MapFS{}
	for p, text := range files {
		m[p] = &fstest.MapFile{Data: []byte(text)}
	}
	tr, err := load(m)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// expect compares violations with the beginnings of those wanted, in any order.
func expect(t *testing.T, got []violation, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("got %v, want %q", got, want)
		return
	}
	for _, w := range want {
		found := false
		for _, g := range got {
			found = found || strings.HasPrefix(g.String(), w)
		}
		if !found {
			t.Errorf("got %v, which lacks %q", got, w)
		}
	}
}

func TestCheckImports(t *testing.T) {
	table := []rule{
		{from: "shared/job", why: "pure"},
		{from: "shared/store/*", may: []string{"shared/store"}, ext: true, why: "a driver"},
		{from: "shared/store", may: []string{"shared/job"}, why: "a port"},
		{from: "shared/internal/...", why: "helpers"},
	}
	tr := small(t, map[string]string{
		"shared/job/job.go":           `package job; import ("fmt"; "anycloud/shared/store")`,
		"shared/job/job_test.go":      `package job; import ("anycloud/shared/store/bolt"; "example.com/x")`,
		"shared/job/testdata/bad.go":  `package bad; import "anycloud/shared/store"`,
		"shared/store/store.go":       `package store; import ("anycloud/shared/job"; "anycloud/shared/internal/x"; "example.com/x")`,
		"shared/store/bolt/b.go":      `package bolt; import ("anycloud/shared/store"; "anycloud/shared/store/bolt/internal/y"; "example.com/x")`,
		"shared/store/mem/m.go":       `package mem; import "anycloud/shared/job"`,
		"shared/internal/x/x.go":      `package x`,
		"shared/nobody/knows/this.go": `package knows`,
	})
	expect(t, checkImports(tr, table),
		"shared/job/job.go: imports shared/store, but shared/job may import only the standard library: pure",
		"shared/store/store.go: imports example.com/x, but shared/store imports no other module: a port",
		"shared/store/mem/m.go: imports shared/job",
		"shared/nobody/knows: no rule",
	)
}

func TestImportTableHasNoDeadRule(t *testing.T) {
	for i, r := range importTable {
		// A rule that an earlier, wider one swallows would never be looked at.
		probe := strings.ReplaceAll(strings.ReplaceAll(r.from, "/...", "/x"), "*", "x")
		if got := ruleFor(probe, importTable); got != &importTable[i] {
			t.Errorf("%s comes after %s, which takes its packages", r.from, got.from)
		}
		if r.why == "" {
			t.Errorf("%s has no reason", r.from)
		}
	}
}

func TestCheckBinaries(t *testing.T) {
	tr := small(t, map[string]string{
		"go.mod":             "module anycloud\n\nrequire (\n\texample.com/sdk v1.0.0 // indirect\n\texample.com/sdk/sub v1.0.0\n)\nrequire example.com/one v1.2.3\n",
		"cmd/a/main.go":      `package main; import "anycloud/shared/x"`,
		"cmd/a/main_test.go": `package main; import "example.com/tests"`,
		"cmd/b/main.go":      `package main; import ("anycloud/shared/x"; "anycloud/shared/y")`,
		"shared/x/x.go":      `package x; import ("example.com/one"; "net/http")`,
		"shared/y/y.go":      `package y; import ("example.com/sdk/sub/deep"; "anycloud/shared/x")`,
	})
	expect(t, checkBinaries(tr, []binary{
		{"cmd/a", []string{"example.com/one"}},
		{"cmd/b", []string{"example.com/one", "example.com/sdk"}},
		{"cmd/c", nil},
	}),
		"cmd/b: links example.com/sdk/sub (through shared/y)",
		"cmd/c: the table",
	)
}

func TestCheckFiles(t *testing.T) {
	tr := small(t, map[string]string{
		"a/doc.go":  "// Package a is documented.\npackage a\n",
		"a/long.go": "package a\n" + strings.Repeat("\n", maxLines),
		"b/b.go":    "// A licence, apart.\n\npackage b\n",
		"c/c.go":    "// Package c is just short enough.\npackage c\n" + strings.Repeat("\n", maxLines-2),
	})
	expect(t, checkFiles(tr), "a/long.go: has 501 lines", "b: the package has no comment")
}

func TestCheckMachine(t *testing.T) {
	tr := small(t, map[string]string{
		"a.md":    "fine: /workdir, shared/work/main.go, ${HOME}/root/x, /work\n",
		"b.md":    "one\ncd /wo" + "rk/main\n",
		"c.sh":    "cp x '/ro" + "ot/x'\n",
		"e.bin":   "\x00/ro" + "ot/x\n",
		".git/f":  "/ro" + "ot/x\n",
		"bin/g":   "/ro" + "ot/x\n",
		"x.test":  "/ro" + "ot/x\n",
		"bin2/ok": "",
	})
	expect(t, checkMachine(tr), "b.md:2: ", "c.sh:1: ")
}

func TestCheckDecisions(t *testing.T) {
	tr := small(t, map[string]string{
		"docs/decisions/short.md": strings.Repeat("x\n", 7),
		"docs/decisions/right.md": strings.Repeat("x\n", 8),
		"docs/decisions/most.md":  strings.Repeat("x\n", 25),
		"docs/decisions/long.md":  strings.Repeat("x\n", 26),
		"docs/other.md":           "x\n",
	})
	expect(t, checkDecisions(tr), "docs/decisions/short.md: ", "docs/decisions/long.md: ")
}

func TestCheckMap(t *testing.T) {
	expect(t, checkMap(small(t, map[string]string{"a": ""})), "README.md: is not there")
	expect(t, checkMap(small(t, map[string]string{"README.md": "# x\n"})), "README.md: has no section")
	tr := small(t, map[string]string{
		"README.md": "```\nnot/this\n```\n## The tree\n```\nshared/job   states\n             and more\ncmd/a  one\n" +
			"gone.go  was here\n```\n```\nnor/this\n```\n",
		"shared/job/x.go":   "package job",
		"shared/store/x.go": "package store",
		"cmd/a/x.go":        "package a",
		"docs/x.md":         "",
	})
	expect(t, checkMap(tr), "README.md: its map names gone.go", "README.md: its map leaves out shared/store", "README.md: its map leaves out docs")
}

func TestCheckDocs(t *testing.T) {
	tr := small(t, map[string]string{
		"Makefile": "X := 1\n.PHONY: gone\ntest: ## run\n\techo\ndemo:\n",
		"docs/a.md": "Call `make test`, then `make gone`; make sure of it. [b](b.md#x) [c](c.md) [u](https://u.example/c.md) [h](#here)\n" +
			"```\n$ make demo\nmake other\n```\nmake believe\n",
		"docs/b.md": "[up](../Makefile)\n",
	})
	expect(t, checkDocs(tr), "docs/a.md: says `make gone`", "docs/a.md: says `make other`", "docs/a.md: links to c.md")
}

func TestLoadRefusesWhatDoesNotParse(t *testing.T) {
	if _, err := load(fstest.MapFS{"a.go": &fstest.MapFile{Data: []byte("package")}}); err == nil {
		t.Error("a broken file passed")
	}
}

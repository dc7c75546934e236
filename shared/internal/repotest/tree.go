// Package repotest holds what is true of the tree as a whole: who may import
// whom, what each binary may link, that every package says what it is for, how
// long a file may be, and that the documents name what exists.
//
// The files are parsed here, in the test's own process. Asking `go list` would
// be shorter, but a result obtained through another program is served from the
// test cache even after the files changed.
//
// The checks take any tree, so that the tests can show each one a bad one.
package repotest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// module is the path before every import of our own.
const module = "anycloud/"

// A violation names the file or package and the rule that it breaks.
type violation struct{ where, rule string }

func (v violation) String() string { return v.where + ": " + v.rule }

// tree is the repository as the checks see it.
type tree struct {
	dirs  map[string]bool
	files map[string]*file
}

// file is one file; text is empty if it is not UTF-8 text.
type file struct {
	path string
	text string
	src  *source // nil if not Go
}

// source is what the checks need of a Go file. Build constraints are not looked
// at: a rule holds on every platform.
type source struct {
	test    bool
	doc     string   // package comment
	imports []string // import paths
}

// load reads a tree, but what .gitignore leaves out.
func load(fsys fs.FS) (*tree, error) {
	t := &tree{dirs: map[string]bool{}, files: map[string]*file{}}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{".git", "bin", ".cache"}, p) {
				return fs.SkipDir
			}
			t.dirs[p] = true
			return nil
		}
		if !d.Type().IsRegular() || slices.Contains([]string{".test", ".out", ".prof"}, path.Ext(p)) || p == ".git" {
			return nil
		}
		b, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		f := &file{path: p}
		if utf8.Valid(b) && !strings.Contains(string(b), "\x00") {
			f.text = string(b)
		}
		// What lies in testdata is data, also where it is called .go.
		if path.Ext(p) == ".go" && !strings.Contains("/"+p, "/testdata/") {
			if f.src, err = parse(p, b); err != nil {
				return err
			}
		}
		t.files[p] = f
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the tree: %w", err)
	}
	return t, nil
}

func parse(p string, b []byte) (*source, error) {
	f, err := parser.ParseFile(token.NewFileSet(), p, b, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return nil, err
	}
	s := &source{test: strings.HasSuffix(p, "_test.go"), doc: docText(f.Doc)}
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		s.imports = append(s.imports, imported)
	}
	return s, nil
}

func docText(g *ast.CommentGroup) string {
	if g == nil {
		return ""
	}
	return g.Text()
}

// packages returns the Go files of each package, by directory.
func (t *tree) packages() map[string][]*file {
	m := map[string][]*file{}
	for p, f := range t.files {
		if f.src != nil {
			m[path.Dir(p)] = append(m[path.Dir(p)], f)
		}
	}
	return m
}

func (t *tree) exists(p string) bool {
	p = path.Clean(p)
	return t.dirs[p] || t.files[p] != nil
}

// imports are what the package's files other than tests import, each once.
func imports(files []*file) []string {
	var all []string
	for _, f := range files {
		if !f.src.test {
			all = append(all, f.src.imports...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// own reports whether an import is of this module, and its directory.
func own(imported string) (string, bool) { return strings.CutPrefix(imported, module) }

// standard reports whether an import is of the standard library: those have no
// dot in their first element.
func standard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

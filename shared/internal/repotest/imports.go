package repotest

import (
	"fmt"
	"path"
	"strings"
)

// rule says what the packages that match from may import, besides the standard
// library and shared/internal. See table.go.
type rule struct {
	from string
	may  []string // of this module
	ext  bool     // other modules too
	why  string
}

// checkImports holds the packages to the table. Tests are free: they may bring
// a fake of any port.
func checkImports(t *tree, table []rule) []violation {
	var bad []violation
	for dir, files := range t.packages() {
		r := ruleFor(dir, table)
		if r == nil {
			bad = append(bad, violation{dir, "no rule says what it may import: add one to table.go"})
			continue
		}
		for _, f := range files {
			if f.src.test {
				continue
			}
			for _, imported := range f.src.imports {
				if why := r.forbids(dir, imported); why != "" {
					bad = append(bad, violation{f.path, why})
				}
			}
		}
	}
	return bad
}

func ruleFor(dir string, table []rule) *rule {
	for i := range table {
		if matches(table[i].from, dir) {
			return &table[i]
		}
	}
	return nil
}

// forbids returns why dir must not import the path, or "".
func (r *rule) forbids(dir, imported string) string {
	target, ours := own(imported)
	switch {
	case !ours && standard(imported):
		return ""
	case !ours && r.ext:
		return ""
	case !ours:
		return fmt.Sprintf("imports %s, but %s imports no other module: %s", imported, r.from, r.why)
	}
	// What lies below a package is part of it, and internal is for all.
	if strings.HasPrefix(target, dir+"/internal/") || strings.HasPrefix(target, "shared/internal/") {
		return ""
	}
	for _, pattern := range r.may {
		if matches(pattern, target) {
			return ""
		}
	}
	return fmt.Sprintf("imports %s, but %s may import only %s: %s", target, r.from, orNothing(r.may), r.why)
}

func orNothing(may []string) string {
	if len(may) == 0 {
		return "the standard library"
	}
	return strings.Join(may, ", ")
}

// matches knows two kinds of pattern: "a/..." is a and all below it, anything
// else is path.Match's, in which a star stands for one element.
func matches(pattern, dir string) bool {
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return dir == base || strings.HasPrefix(dir, base+"/")
	}
	ok, err := path.Match(pattern, dir)
	return ok && err == nil
}

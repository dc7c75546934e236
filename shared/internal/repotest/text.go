package repotest

import (
	"fmt"
	"path"
	"regexp"
	"strings"
)

// maxLines is where newcomers get lost in a file.
const maxLines = 500

// checkFiles: every package has a comment, no Go file is too long.
func checkFiles(t *tree) []violation {
	var bad []violation
	for dir, files := range t.packages() {
		documented := false
		for _, f := range files {
			documented = documented || strings.TrimSpace(f.src.doc) != ""
			if n := strings.Count(f.text, "\n"); n > maxLines {
				bad = append(bad, violation{f.path, fmt.Sprintf("has %d lines, more than %d: split it by topic", n, maxLines)})
			}
		}
		if !documented {
			bad = append(bad, violation{dir, "the package has no comment"})
		}
	}
	return bad
}

// machinePaths are where the tree happened to be written, which says nothing to
// anybody else. They are put together from pieces so that this file has none.
var machinePaths = regexp.MustCompile(`(^|[^A-Za-z0-9_.$}-])/(` + strings.Join([]string{
	"wo" + "rk/(main|shared|\\.)", "ro" + "ot/", "tmp/ba" + "sh_jobs", "tmp/BR" + "IEF",
}, "|") + `)`)

// checkMachine: no text names a path of the machine it was written on.
func checkMachine(t *tree) []violation {
	var bad []violation
	for p, f := range t.files {
		n := 0
		for line := range strings.Lines(f.text) {
			n++
			if m := machinePaths.FindString(line); m != "" {
				bad = append(bad, violation{fmt.Sprintf("%s:%d", p, n), fmt.Sprintf("names a path of one machine, %q", m)})
			}
		}
	}
	return bad
}

// checkDecisions: a decision is a page that one reads in a minute, and not
// a sentence either.
func checkDecisions(t *tree) []violation {
	var bad []violation
	for p, f := range t.files {
		if ok, _ := path.Match("docs/decisions/*.md", p); !ok {
			continue
		}
		if n := strings.Count(f.text, "\n"); n < 8 || n > 25 {
			bad = append(bad, violation{p, fmt.Sprintf("has %d lines; a decision has 8 to 25", n)})
		}
	}
	return bad
}

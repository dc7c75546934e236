package repotest

import (
	"path"
	"regexp"
	"strings"
)

// mapHeading is the heading of README.md under which a code block maps the
// tree, a path at the beginning of each line.
const mapHeading = "## The tree"

// checkMap: README's map names only what exists, and leaves out no directory
// at the top nor package right below shared.
func checkMap(t *tree) []violation {
	readme := t.files["README.md"]
	if readme == nil {
		return []violation{{"README.md", "is not there"}}
	}
	_, section, ok := strings.Cut(readme.text, mapHeading+"\n")
	if !ok {
		return []violation{{"README.md", "has no section " + mapHeading}}
	}
	named := map[string]bool{}
	var bad []violation
	fenced(section, func(line string) bool {
		if fields := strings.Fields(line); len(fields) > 0 && !strings.HasPrefix(line, " ") {
			p := path.Clean(fields[0])
			named[p] = true
			if !t.exists(p) {
				bad = append(bad, violation{"README.md", "its map names " + fields[0] + ", which does not exist"})
			}
		}
		return true
	})
	for dir := range t.dirs {
		parent := path.Dir(dir)
		wanted := (parent == "." || parent == "shared") && dir != "." && dir != "shared"
		if wanted && t.hasFiles(dir) && !named[dir] && !anyBelow(named, dir) {
			bad = append(bad, violation{"README.md", "its map leaves out " + dir})
		}
	}
	return bad
}

// hasFiles tells a directory in git from an empty one, which git does not keep.
func (t *tree) hasFiles(dir string) bool {
	for p := range t.files {
		if strings.HasPrefix(p, dir+"/") {
			return true
		}
	}
	return false
}

func anyBelow(named map[string]bool, dir string) bool {
	for p := range named {
		if strings.HasPrefix(p, dir+"/") {
			return true
		}
	}
	return false
}

var (
	makeTarget  = regexp.MustCompile(`^([a-z]+):`)
	makeInLine  = regexp.MustCompile("`make ([a-z]+)")
	makeInBlock = regexp.MustCompile(`^\s*(?:\$ )?make ([a-z]+)`)
	link        = regexp.MustCompile(`\]\(([^)#:\s]+)(?:#[^)]*)?\)`)
)

// checkDocs: every document calls only targets that the Makefile has, and links
// only to files that exist.
func checkDocs(t *tree) []violation {
	targets := map[string]bool{}
	if f := t.files["Makefile"]; f != nil {
		for line := range strings.Lines(f.text) {
			if m := makeTarget.FindStringSubmatch(line); m != nil {
				targets[m[1]] = true
			}
		}
	}
	var bad []violation
	for p, f := range t.files {
		if path.Ext(p) != ".md" || strings.Contains("/"+p, "/testdata/") {
			continue
		}
		called := makeInLine.FindAllStringSubmatch(f.text, -1)
		fenced(f.text, func(line string) bool {
			called = append(called, makeInBlock.FindAllStringSubmatch(line, -1)...)
			return false
		})
		for _, m := range called {
			if !targets[m[1]] {
				bad = append(bad, violation{p, "says `make " + m[1] + "`, which the Makefile does not have"})
			}
		}
		for _, m := range link.FindAllStringSubmatch(f.text, -1) {
			if !t.exists(path.Join(path.Dir(p), m[1])) {
				bad = append(bad, violation{p, "links to " + m[1] + ", which does not exist"})
			}
		}
	}
	return bad
}

// fenced calls fn with each line inside the code blocks of a Markdown text;
// with firstOnly returned by fn, only with those of the first block.
func fenced(text string, fn func(line string) (firstOnly bool)) {
	inside, stop := false, false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			if inside && stop {
				return
			}
			inside = !inside
			continue
		}
		if inside {
			stop = fn(line)
		}
	}
}

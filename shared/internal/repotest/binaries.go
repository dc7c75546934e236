package repotest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// binary is a program and the other modules that our packages in it may import.
// What those modules import in turn is theirs; a cloud's SDK is among them only
// if one of our drivers names it.
type binary struct {
	dir     string
	modules []string
}

// binaries keeps heavy modules out of the programs that do not call them.
var binaries = []binary{
	{"cmd/anycloud", []string{
		"github.com/agext/levenshtein",   // what a mistyped name means
		"github.com/cenkalti/backoff/v5", // retries
		"github.com/dustin/go-humanize",  // sizes and times for people
		"github.com/klauspost/compress",  // chunks of checkpoints, for checkpoint pull
		"github.com/mattn/go-runewidth",  // columns of tables
		"github.com/spf13/cobra",         // commands
		"github.com/spf13/pflag",         // flags
		"github.com/vbauerster/mpb/v8",   // progress bars
		"github.com/zeebo/blake3",        // names of chunks
		"go.etcd.io/bbolt",               // the embedded table
		"golang.org/x/sync",              // groups of goroutines
		"golang.org/x/sys",               // sessions, locks, process start times
		"golang.org/x/term",              // is it a terminal
		"sigs.k8s.io/yaml",               // --file job.yaml
	}},
	{"cmd/anycloud-agent", []string{
		"github.com/agext/levenshtein",                            // what a mistyped name means
		"github.com/aws/aws-sdk-go-v2",                            // buckets of S3
		"github.com/aws/aws-sdk-go-v2/config",                     // buckets of S3
		"github.com/aws/aws-sdk-go-v2/credentials",                // buckets of S3
		"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager", // buckets of S3
		"github.com/aws/aws-sdk-go-v2/service/s3",                 // buckets of S3
		"github.com/aws/smithy-go",                                // S3's errors
		"github.com/cenkalti/backoff/v5",                          // retries
		"github.com/containerd/errdefs",                           // the engine's classes of errors
		"github.com/distribution/reference",                       // names of images
		"github.com/docker/go-units",                              // sizes as the engine writes them
		"github.com/dustin/go-humanize",                           // sizes for people
		"github.com/klauspost/compress",                           // chunks
		"github.com/moby/moby/api",                                // the container engine
		"github.com/moby/moby/client",                             // the container engine
		"github.com/opencontainers/image-spec",                    // the container engine's types
		"github.com/spf13/cobra",                                  // the engine's command line
		"github.com/spf13/pflag",                                  // flags
		"github.com/vbauerster/mpb/v8",                            // progress bars
		"github.com/zeebo/blake3",                                 // names of chunks
		"golang.org/x/sync",                                       // groups of goroutines
		"golang.org/x/sys",                                        // namespaces, freezing, power off
		"golang.org/x/term",                                       // is it a terminal
	}},
}

// checkBinaries follows our own imports from each program and compares the
// other modules found on the way with what the program may link.
func checkBinaries(t *tree, all []binary) []violation {
	requires, packages := required(t), t.packages()
	var bad []violation
	for _, b := range all {
		if packages[b.dir] == nil {
			bad = append(bad, violation{b.dir, "the table of binaries names it, and there is no such package"})
			continue
		}
		found := map[string]string{} // module → the package of ours that imports it
		seen := map[string]bool{}
		var visit func(dir string)
		visit = func(dir string) {
			if seen[dir] {
				return
			}
			seen[dir] = true
			for _, imported := range imports(packages[dir]) {
				if target, ours := own(imported); ours {
					visit(target)
				} else if !standard(imported) {
					found[moduleOf(imported, requires)] = dir
				}
			}
		}
		visit(b.dir)
		for _, m := range slices.Sorted(maps.Keys(found)) {
			if !slices.Contains(b.modules, m) {
				bad = append(bad, violation{b.dir, fmt.Sprintf("links %s (through %s), which binaries.go does not allow it", m, found[m])})
			}
		}
	}
	return bad
}

// required lists the modules that go.mod names.
func required(t *tree) []string {
	var all []string
	if f := t.files["go.mod"]; f != nil {
		for line := range strings.Lines(f.text) {
			fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
			if len(fields) >= 2 && strings.HasPrefix(fields[1], "v") {
				all = append(all, fields[0])
			}
		}
	}
	return all
}

// moduleOf returns the longest required module that the import is in, or the
// import itself if there is none.
func moduleOf(imported string, requires []string) string {
	best := ""
	for _, m := range requires {
		if (imported == m || strings.HasPrefix(imported, m+"/")) && len(m) > len(best) {
			best = m
		}
	}
	if best == "" {
		return imported
	}
	return best
}

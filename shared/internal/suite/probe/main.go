// Probe tells what this machine can run of the test suites.
//
//	go run ./shared/internal/suite/probe [SUITE...]
//
// It prints a line per suite, of all if none is named, and exits 1 if one of
// them is absent.
package main

import (
	"fmt"
	"os"

	"anycloud/shared/internal/suite"
)

func main() {
	names := os.Args[1:]
	if len(names) == 0 {
		names = suite.Names()
	}
	status := 0
	for _, name := range names {
		if err := suite.Probe(name); err != nil {
			status = 1
			fmt.Printf("%-10s  absent: %v\n", name, err)
			continue
		}
		fmt.Printf("%-10s  there\n", name)
	}
	os.Exit(status)
}

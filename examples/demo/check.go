package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// epoch is one line "epoch 12/60 …" of the training, and who printed it.
type epoch struct{ number, attempt int }

var epochLine = regexp.MustCompile(`^epoch (\d+)/`)

func epochsOf(lines []line) []epoch {
	var es []epoch
	for _, l := range lines {
		if m := epochLine.FindStringSubmatch(l.Text); m != nil {
			n, _ := strconv.Atoi(m[1])
			es = append(es, epoch{n, l.Attempt})
		}
	}
	return es
}

// judge holds the log to what the product promises: no epoch is missing, none
// is repeated after the warned preemption, and after the unwarned one only
// those since the last commit.
func judge(c *cli, lines []line) error {
	by := map[int][]int{}
	seen := map[int]bool{}
	for _, e := range epochsOf(lines) {
		by[e.attempt] = append(by[e.attempt], e.number)
		seen[e.number] = true
	}
	for n := 1; n <= epochs; n++ {
		if !seen[n] {
			return fmt.Errorf("epoch %d is missing from the log", n)
		}
	}
	if len(by) != 3 {
		return fmt.Errorf("the log has epochs of %d attempts, want 3: %v", len(by), by)
	}
	warned := overlap(by[1], by[2])
	if warned != 0 {
		return fmt.Errorf("%d epochs were repeated after the warned preemption", warned)
	}
	c.say("epochs: none of %d missing; repeated after the notice: 0; repeated after the unwarned loss: %d", epochs, overlap(by[2], by[3]))
	for _, l := range lines {
		if strings.HasPrefix(l.Text, "done:") {
			c.say("%s", l.Text)
			return nil
		}
	}
	return fmt.Errorf("the training's last line is missing")
}

// overlap counts the epochs of after that before had done already.
func overlap(before, after []int) int {
	if len(before) == 0 || len(after) == 0 {
		return 0
	}
	return max(0, before[len(before)-1]-after[0]+1)
}

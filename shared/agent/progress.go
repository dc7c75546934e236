package agent

import (
	"fmt"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"anycloud/shared/api"
)

// tellEvery is how often something long is told of. What is over sooner is not.
const tellEvery = 2 * time.Second

// What takes long.
const (
	ofImage   = "image"
	ofRestore = "restore"
	ofSave    = "save"
	ofInput   = "input"
)

// progress tells of something long in the job's log. The function that it
// returns may be called at any rate, by several goroutines.
func (a *agent) progress(what string) func(done, total int64) {
	var mu sync.Mutex
	last := time.Now()
	return func(done, total int64) {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(last) < tellEvery {
			return
		}
		last = time.Now()
		text := fmt.Sprintf("%s: %s of %s", what, humanize.IBytes(uint64(max(0, done))), humanize.IBytes(uint64(max(0, total))))
		a.Logger.Debug(text)
		a.ship.say(text, &api.Progress{What: what, Done: done, Total: total})
	}
}

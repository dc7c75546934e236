package trial

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"
)

var (
	kills   = flag.Int("kills", 30, "saves to kill")
	saves   = flag.Int("saves", 30, "saves of a busy job")
	fencing = flag.Duration("fencing", 10*time.Second, "how long attempts fence each other")
	seed    = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the random moments")
)

// roleEnv makes this binary one of the processes of a trial instead of the
// trial itself.
const roleEnv = "ANYCLOUD_TRIAL_ROLE"

var roles = map[string]func() error{
	"contender": contend,
	"writer":    write,
	"siblings":  keepNames,
}

func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv(roleEnv)]; ok {
		if err := role(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

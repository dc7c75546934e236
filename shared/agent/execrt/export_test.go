//go:build linux

package execrt

import "anycloud/shared/agent/keeper"

// NewAt is New with one isolation only and, if signals is set, no cgroup.
func NewAt(dir, level string, signals bool) *Runtime {
	cfg := keeper.Config{Engine: engineName, Bury: bury}
	if signals {
		cfg.Engine += "-signals"
	}
	for _, l := range levels() {
		if l.Name == level {
			cfg.Levels = append(cfg.Levels, l)
		}
	}
	return &Runtime{keeper.NewClient(dir, cfg, nil)}
}

// WithoutCgroup is the engine of such a runtime.
func WithoutCgroup() keeper.Engine { return signals{Engine{noCgroup: true}} }

type signals struct{ Engine }

func (signals) Name() string { return engineName + "-signals" }

// Package sim is a deterministic, seeded simulation: the real control plane and
// the real log protocol, on memstore, fakecloud, membucket and a model of
// agents, in simulated time.
//
// One seed is one schedule. Every call that leaves a process is a step: before
// and after it the simulation may crash the caller, take the answer away,
// refuse, or stall it while others go on. After every step the invariants of
// docs/architecture.md are checked. A failing seed prints itself and replays:
//
//	go run ./shared/sim/cmd/sim -seed 42 -v
//
//	sched.go       tasks, virtual time, one queue of wake-ups
//	faults.go      what is injected, and how often each was
//	world.go       the fakes and the control plane wired together
//	calls.go       the hooks: what happens around each outside call
//	bus.go         a bus that loses, doubles, delays and reorders
//	agent.go       the model of an agent and its container
//	storage.go     the agent's saves, restores and prunes on the real log
//	chaos.go       what clouds and users do to the jobs meanwhile
//	invariants.go  I1 to I8
//	broken.go      deliberately broken variants that must be caught
//	run.go         one schedule from a seed; many of them
package sim

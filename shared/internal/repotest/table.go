package repotest

// importTable is the map of the tree. The first rule that matches a package is
// its rule. Outermost first it reads: cmd → setup → drivers → their port.
var importTable = []rule{
	// The job's states and its one transition function can be read, tested and simulated without anything else.
	{from: "shared/job", why: "the state machine is pure"},
	// A decoder turns a payload into a Notice; what it decodes is bytes.
	{from: "shared/preempt", why: "decoders are pure functions of a payload"},
	// Polls inside the VM for one cloud's notices.
	{from: "shared/preempt/*", may: []string{"shared/preempt"}, ext: true, why: "a poller yields notices"},

	// The shared suite of a port knows the port and its fixtures, and no driver.
	{from: "shared/store/storetest", may: []string{"shared/store", "shared/job"}, ext: true, why: "the suite of a port must know none of its drivers"},
	{from: "shared/cloud/cloudtest", may: []string{"shared/cloud", "shared/job", "shared/preempt"}, ext: true, why: "the suite of a port must know none of its drivers"},
	{from: "shared/bucket/buckettest", may: []string{"shared/bucket"}, ext: true, why: "the suite of a port must know none of its drivers"},
	{from: "shared/bus/bustest", may: []string{"shared/bus"}, ext: true, why: "the suite of a port must know none of its drivers"},

	// Ports are imported by everybody, so they bring no dependencies along.
	{from: "shared/store", may: []string{"shared/job"}, why: "a port brings no dependencies"},
	{from: "shared/cloud", may: []string{"shared/job", "shared/preempt"}, why: "a port brings no dependencies"},
	{from: "shared/bucket", why: "a port brings no dependencies"},
	{from: "shared/bus", why: "a port brings no dependencies"},

	// Opens a bucket by its URL for the engine's command line: the one place that knows all bucket drivers.
	{from: "shared/bucket/bucketurl", may: []string{"shared/bucket", "shared/bucket/*"}, ext: true, why: "it composes bucket drivers"},
	// A driver is its port and one SDK.
	{from: "shared/store/...", may: []string{"shared/store", "shared/job"}, ext: true, why: "a driver knows its port alone"},
	{from: "shared/cloud/...", may: []string{"shared/cloud", "shared/cloud/*", "shared/cloud/localcloud/...", "shared/job", "shared/preempt"}, ext: true, why: "a driver knows its port alone"},
	{from: "shared/bucket/...", may: []string{"shared/bucket"}, ext: true, why: "a driver knows its port alone"},
	{from: "shared/bus/...", may: []string{"shared/bus"}, ext: true, why: "a driver knows its port alone"},

	// The engine works on any bucket, with or without a control plane.
	{from: "shared/checkpoint/...", may: []string{"shared/bucket", "shared/checkpoint/..."}, ext: true, why: "the engine knows only buckets"},
	// Both ends of the protocol share its types.
	{from: "shared/api/...", may: []string{"shared/api", "shared/job", "shared/preempt", "shared/bucket"}, ext: true, why: "the protocol speaks in the words of the job"},
	// GPUs, machine types and prices are data.
	{from: "shared/catalog/...", may: []string{"shared/catalog"}, ext: true, why: "the catalog is data"},
	// The measuring of the control plane brings drivers, as a composition root does.
	{from: "shared/controlplane/bench", may: []string{"shared/..."}, ext: true, why: "it composes"},
	// What the control plane decides must run in any cloud: it knows ports and no driver.
	{from: "shared/controlplane/...", may: []string{"shared/controlplane/...", "shared/job", "shared/store", "shared/cloud", "shared/bucket",
		"shared/bus", "shared/preempt", "shared/catalog", "shared/api"}, ext: true, why: "the control plane knows ports and no driver"},
	// The agent talks to the control plane by the protocol, and to nothing of the cloud but the metadata.
	{from: "shared/agent/...", may: []string{"shared/agent/...", "shared/api", "shared/bucket", "shared/checkpoint/...", "shared/job",
		"shared/preempt", "shared/preempt/*"}, ext: true, why: "the agent declares what it consumes, and setup brings it"},

	// The simulation runs the real control plane against the fakes.
	{from: "shared/sim/...", may: []string{"shared/sim/...", "shared/controlplane/...", "shared/job", "shared/store/...", "shared/cloud",
		"shared/cloud/fakecloud", "shared/bucket", "shared/bucket/membucket", "shared/bus/...", "shared/preempt", "shared/checkpoint/...",
		"shared/api", "shared/catalog"}, ext: true, why: "the simulation has no driver that touches the world"},
	// The torture starts the built binaries and looks at them from outside.
	{from: "shared/torture", may: []string{"shared/api", "shared/job"}, ext: true, why: "it looks at the binaries from outside"},
	// One composition root per binary: the only packages that choose drivers.
	{from: "shared/setup/...", may: []string{"shared/setup/...", "shared/agent/...", "shared/api", "shared/bucket/...", "shared/bus/...",
		"shared/catalog", "shared/checkpoint/...", "shared/cloud/...", "shared/controlplane", "shared/job", "shared/preempt/...",
		"shared/store/..."}, ext: true, why: "it composes, but links no tests and no simulation"},
	// Helpers without a port: they know nothing of the product, so that all may import them.
	{from: "shared/internal/...", ext: true, why: "what all may import must import nothing"},

	// A command parses flags, calls the API's client or what setup composed, and prints.
	{from: "cmd/...", may: []string{"cmd/...", "shared/setup/...", "shared/api", "shared/catalog", "shared/job"}, ext: true, why: "main is wiring, and drivers come through setup"},
	// The workload knows nothing of anycloud but a path.
	{from: "examples/digits", why: "the workload knows nothing of anycloud"},
	// Examples do what a user could do.
	{from: "examples/...", may: []string{"shared/api", "shared/job"}, ext: true, why: "an example does what a user could do"},
}

package sim

// Variant names a deliberately broken version of one mechanism. The tests keep
// them to show that the simulation catches each.
type Variant string

const (
	// FenceSkipped: a writer takes over without a fence, and appends without
	// looking whether it was fenced.
	FenceSkipped Variant = "fence skipped"
	// PruneBeforeEntry: packs are deleted before the entry that lists them.
	PruneBeforeEntry Variant = "prune deletes before its entry"
)

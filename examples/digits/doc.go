// Digits trains a small neural network on real handwritten digits, saving its
// state after every epoch and going on from it when started again.
//
// It is the workload of the demo, and an example of what anycloud asks of a
// program: write what you would hate to lose to a directory, and read it back
// at the start. Nothing of anycloud is linked or called; all it knows is where
// the directory is.
//
// # Files
//
//	$ANYCLOUD_CHECKPOINT_DIR/state     what a restart goes on from; without the
//	                                   variable in /mnt/checkpoint
//	$ANYCLOUD_OUTPUT_DIR/result.json   the outcome; without the variable not written
//
// # Output
//
// One line per epoch, printed before the epoch's state is saved: whoever finds
// the state of an epoch can rely on its line having been printed.
//
// # Determinism
//
// The result depends on the seed and the number of epochs alone. A run that was
// interrupted, at any moment and however often, ends with the same weights, bit
// for bit, as one that was not (the same binary on the same kind of processor
// provided: others may round differently).
//
// # Exit codes
//
//	0    trained to the last epoch
//	1    failed; a damaged state file counts as failure, so that hours of work
//	     are never silently started over
//	2    bad flags
//	143  stopped by SIGTERM, the epoch at hand finished and its state saved
package main

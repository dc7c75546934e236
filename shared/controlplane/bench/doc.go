// Package bench measures the control plane on the embedded table: how long a
// notice takes to become a launch call, and what a sweep of many jobs costs.
// `make bench` prints the figures beside their limits.
package bench

// Package torture starts the real binaries and kills them: control plane,
// agents, containers and VMs, at random moments, for real.
//
//	torture_test.go  the rounds
//	home_test.go     one home: its serve, its CLI
//	strike_test.go   what is killed, and how it is found
//	check_test.go    what must be true at the end
package torture

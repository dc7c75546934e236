package dockerrt

import "syscall"

// session keeps what is meant for the agent's terminal from its keepers.
func session() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

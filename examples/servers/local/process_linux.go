package local

import "syscall"

// serverAttr protects a server from the terminal's Ctrl-C. The kernel kills the server when its
// parent dies.
func serverAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

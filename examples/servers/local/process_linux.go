package local

import "syscall"

// serverAttr keeps a terminal's Ctrl-C away from a server and has the kernel kill it when its parent is gone.
func serverAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

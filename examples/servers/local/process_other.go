//go:build !linux

package local

import "syscall"

// serverAttr protects a server from the terminal's Ctrl-C. On these systems the warden kills the
// server when its parent dies.
func serverAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

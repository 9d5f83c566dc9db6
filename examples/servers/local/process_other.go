//go:build !linux

package local

import "syscall"

// serverAttr keeps a terminal's Ctrl-C away from a server. That it ends with its parent is the warden's business here.
func serverAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

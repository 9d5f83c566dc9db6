package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// commandPatience is what the command has to end in once it was asked to.
const commandPatience = 10 * time.Second

// runCommand runs cmd to its end and returns its exit status. When ctx ends by a signal it passes that on, and kills cmd if it
// has not ended commandPatience later. Guard is told the process to be killed should this program die first.
//
// In the foreground of a terminal cmd stays in this program's process group, so that it can read the terminal and gets Ctrl-C from it.
// Anywhere else it has a group of its own: a signal to it then reaches what it started as well, and it gets each signal once.
func runCommand(ctx context.Context, cmd *exec.Cmd, guard func(pid int) (forget func())) (int, error) {
	foreground := inForeground()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: !foreground}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	target := cmd.Process.Pid
	if !foreground {
		target = -target
	}
	forget := guard(target)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // ProcessState tells it all
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		interrupt(target, context.Cause(ctx), foreground, commandPatience, ended)
	}
	forget()
	return exitStatus(cmd.ProcessState), nil
}

// interrupt passes a signal on to target, a process or group, and waits for the command's end. It enforces that after patience.
func interrupt(target int, cause error, foreground bool, patience time.Duration, ended <-chan struct{}) {
	if by, ok := errors.AsType[stopped](cause); ok {
		fromTerminal := foreground && by.by == syscall.SIGINT // then the command got it too
		if !fromTerminal {
			_ = syscall.Kill(target, by.by.(syscall.Signal))
		}
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		_ = syscall.Kill(target, syscall.SIGKILL)
		<-ended
	}
}

// inForeground says whether this process belongs to the group that a terminal's keyboard signals go to.
func inForeground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false // no terminal
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// exitStatus is the status of an ended process as a shell gives it.
func exitStatus(state *os.ProcessState) int {
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return exitSignal + int(ws.Signal())
	}
	return state.ExitCode()
}

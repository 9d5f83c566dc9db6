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

// commandPatience is the time for the command to end after a signal.
const commandPatience = 10 * time.Second

// runCommand runs cmd to its end and returns its exit status. If a signal ends ctx, runCommand
// passes the signal on to cmd. If cmd has not ended after commandPatience, runCommand kills cmd.
// The function guard registers the process, so the process is killed if this program dies first.
//
// In the foreground of a terminal, cmd stays in this program's process group. So cmd can read the
// terminal, and receives Ctrl-C from the terminal. Otherwise cmd has its own process group. A
// signal to the group also reaches the children of cmd, and cmd receives each signal once.
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
		_ = cmd.Wait() // the result is in ProcessState
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		interrupt(target, context.Cause(ctx), foreground, commandPatience, ended)
	}
	forget()
	return exitStatus(cmd.ProcessState), nil
}

// interrupt passes a signal on to target, which is a process or a group, and waits for the end of
// the command. After patience it kills target.
func interrupt(target int, cause error, foreground bool, patience time.Duration, ended <-chan struct{}) {
	if by, ok := errors.AsType[stopped](cause); ok {
		fromTerminal := foreground && by.by == syscall.SIGINT // the command also received the signal
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

// inForeground reports whether a terminal sends its keyboard signals to this process's group.
func inForeground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false // no terminal
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// exitStatus returns the status of an ended process as a shell reports the status.
func exitStatus(state *os.ProcessState) int {
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return exitSignal + int(ws.Signal())
	}
	return state.ExitCode()
}

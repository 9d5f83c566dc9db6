package main

import (
	"os"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal returns the two ends of a new pseudo-terminal (pty(7), ioctl_tty(2)).
func openTerminal(t *testing.T) (keyboard, tty *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	raw, err := keyboard.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number int
	if err := raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	return keyboard, tty
}

// In the foreground of a terminal, the command reads the terminal. It gets Ctrl-C once, from the
// terminal and not from servers.
func TestCtrlCReachesTheCommandOnce(t *testing.T) {
	const counts = `n=0; trap 'n=$((n+1)); echo interrupted' INT
echo servers=$SERVERS_URL
while :; do if read -r line; then echo line=$line, interrupted $n times; exit 6; fi; done`
	keyboard, tty := openTerminal(t)
	tmp := t.TempDir()
	cmd := program(t, tmp, "--", "sh", "-c", counts)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	_ = tty.Close()
	screen := &lineReader{t: t, file: keyboard}
	pids := serverPIDs(t, screen.after("servers="))
	if _, err := keyboard.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	screen.after("^Cinterrupted")
	if _, err := keyboard.WriteString("bye\n"); err != nil {
		t.Fatal(err)
	}
	if got := screen.after("line="); got != "bye, interrupted 1 times" {
		t.Errorf("line=%s", got)
	}
	_ = cmd.Wait()
	if status := exitStatus(cmd.ProcessState); status != 6 {
		t.Errorf("exit status %d, want 6", status)
	}
	awaitGone(t, pids...)
	awaitTidy(t, tmp)
}

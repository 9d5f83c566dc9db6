package pool

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
)

// A Refusal is an error by which a layer refuses uses because earlier uses failed: the error of an open circuit breaker. Class tells of the
// refusal ([FaultLocal]), Because of the failure. Both may be called concurrently.
type Refusal interface {
	Classified
	// Because returns the class of the failure for which the layer refuses. The Fault is FaultNone if no failure was the reason: somebody
	// has opened the breaker by hand.
	Because() Class
}

// Because returns the root cause of a use's error: if err is a [Refusal], the class of the failure for which the layer refuses. ok is false
// for any other error; the class of such an error is the answer. A layer that reports whose fault a failure is asks Because first. Without
// Because, the death of a server would be reported as refusals of this process. Because makes no allocation.
func Because(err error) (class Class, ok bool) {
	if left, is := err.(*UseError); is { //nolint:errorlint // what Do and its like return
		err = left.Err
	}
	if own, found := find(err, anyClassified); found {
		if r, is := own.(Refusal); is {
			class = r.Because()
		}
	}
	return class, class.Fault != FaultNone
}

// breakage gives the error.type of an error that ended a connection or prevented a connection from being opened. The names are few.
func breakage(err error) string {
	errno, _ := find(err, func(syscall.Errno) bool { return true })
	switch errno { //nolint:exhaustive // the others have no name of their own
	case syscall.ECONNREFUSED:
		return "connection_refused"
	case syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED:
		return "connection_reset"
	case syscall.EHOSTUNREACH, syscall.ENETUNREACH:
		return "unreachable"
	}
	if _, ok := find(err, func(*net.DNSError) bool { return true }); ok {
		return "dns"
	}
	if isTLS(err) {
		return "tls"
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "eof"
	}
	return "broken"
}

// isTLS says whether err is about a TLS handshake or record.
func isTLS(err error) bool {
	if _, ok := find(err, func(*tls.CertificateVerificationError) bool { return true }); ok {
		return true
	}
	if _, ok := find(err, func(tls.AlertError) bool { return true }); ok {
		return true
	}
	_, ok := find(err, func(tls.RecordHeaderError) bool { return true })
	return ok
}

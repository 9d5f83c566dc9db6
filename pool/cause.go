package pool

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
)

// A Refusal is an error by which a layer refuses uses because of what happened to others: a circuit breaker's. Its class is that of the
// refusal, [FaultLocal]. Because may be called concurrently.
type Refusal interface {
	Classified
	// Because returns the class of the failure that made the layer refuse. Its Fault is FaultNone if there was none, as when somebody has
	// opened a breaker by hand.
	Because() Class
}

// Because returns the root cause of err, an error of a use: the class of the failure for which a layer refused the use, if err is such a
// [Refusal]. ok is false for any other error, whose own class says what there is to say. A layer that reports whose fault failures are asks
// this first: else a server's death would show as this process's own refusals. It costs no allocation.
func Because(err error) (class Class, ok bool) {
	if own, found := find(err, anyClassified); found {
		if r, is := own.(Refusal); is { //nolint:errorlint // about the error whose class counts
			class = r.Because()
		}
	}
	return class, class.Fault != FaultNone
}

// breakage names what ended a connection, or kept it from being opened, for error.type: the names are few, whatever the error's text.
func breakage(err error) string {
	errno, _ := find(err, func(syscall.Errno) bool { return true })
	switch errno {
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

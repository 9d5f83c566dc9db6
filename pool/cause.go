package pool

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/internal/errtree"
)

// A Refusal is an error by which a layer refuses uses because earlier uses failed, such as the
// error of an open circuit breaker. Class describes the refusal ([driver.FaultLocal]). Because
// describes the failure. Both methods may be called concurrently.
type Refusal interface {
	driver.Classified
	// Because returns the class of the failure for which the layer refuses uses. Fault is FaultNone if
	// no failure was the reason, for example if the breaker was opened by hand.
	Because() driver.Class
}

// Because returns the class of the root cause of a use's error. If err is a [Refusal], class is the
// class of the failure for which the layer refuses uses. For any other error ok is false, and the
// class of the error itself is the answer. A layer that reports the fault of a failure calls
// Because first. Otherwise the death of a server would be reported as refusals of this process.
// Because does not allocate.
func Because(err error) (class driver.Class, ok bool) {
	if left, is := err.(*UseError); is { //nolint:errorlint // set by Do, Get and Acquire
		err = left.Err
	}
	if own, found := errtree.Find(err, anyClassified); found {
		if r, is := own.(Refusal); is {
			class = r.Because()
		}
	}
	return class, class.Fault != driver.FaultNone
}

// breakage returns the error.type of an error that ended a connection or prevented a connection.
// The set of names is small.
func breakage(err error) string {
	errno, _ := errtree.Find(err, func(syscall.Errno) bool { return true })
	switch errno { //nolint:exhaustive // the other values have no name of their own
	case syscall.ECONNREFUSED:
		return "connection_refused"
	case syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED:
		return "connection_reset"
	case syscall.EHOSTUNREACH, syscall.ENETUNREACH:
		return "unreachable"
	}
	if _, ok := errtree.Find(err, func(*net.DNSError) bool { return true }); ok {
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

// isTLS reports whether err is an error of a TLS handshake or a TLS record.
func isTLS(err error) bool {
	if _, ok := errtree.Find(err, func(*tls.CertificateVerificationError) bool { return true }); ok {
		return true
	}
	if _, ok := errtree.Find(err, func(tls.AlertError) bool { return true }); ok {
		return true
	}
	_, ok := errtree.Find(err, func(tls.RecordHeaderError) bool { return true })
	return ok
}

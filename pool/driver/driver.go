package driver

import "context"

// A Driver opens, checks and closes the resources of a single backend. Only a pool calls the
// methods of a Driver: concurrently for different resources, and one call at a time for each
// resource. The context of Open, Check, Close and Reset has a deadline set by the pool:
// Config.OpenTimeout for Open, Config.CheckTimeout for the other methods. A method must return when
// its context ends. The pool treats a panic as a failure.
//
// A Driver may also implement [Resetter], [Validator], [Interrupter], [Inspector], [Classifier],
// [Witness], [Identifier], [Sizer], pool.Leveler and pool.Attacher. New looks for these interfaces
// once. The three methods of Driver are enough for a pool that judges its server correctly:
//
//   - Without a Classifier the pool recognizes the errors common to all backends
//     ([ClassifyCommon]). Any other error is nobody's fault, and the use is not repeated. The pool
//     checks the resource before the next lease; if Config.CheckAfter is negative, the pool closes
//     the resource. An unknown error of Open is the server's fault, and the use may be repeated,
//     because nothing was sent.
//   - Without a Witness the pool recognizes failures of other uses by their mark (pool.UseError). A
//     raw error from the client of another server counts as an error of the pool's own server. An
//     error unknown to the Classifier, such as an error of the borrower's function, may hide the
//     end of the connection. Such an error costs a check before the next lease.
//   - Without a Resetter the next borrower gets the state left by the last borrower, such as an
//     open transaction. A client with state on its connections needs a Resetter. Dirty reports the
//     state, and Reset removes the state. If Reset fails, the pool closes the resource.
//   - A reply that has not been read is such a state. A command gives up at a deadline, and the
//     borrower's function hides the error. Then the pool cannot know that a reply is still to come,
//     and the next borrower would read this reply. Dirty reports the reply, and a Reset that always
//     fails makes the pool close the resource.
type Driver[T any] interface {
	// Open makes a resource that is ready for use. If Open returns an error, the pool ignores the
	// resource, and Open must have cleaned up.
	Open(ctx context.Context) (T, error)
	// Check tests whether a resource is fit for use. The resource is not lent during Check. After an
	// error the pool closes the resource.
	Check(ctx context.Context, res T) error
	// Close ends the resource in any state. The pool calls Close exactly once for every resource
	// returned by Open without an error. The place of the resource under MaxSize is free after Close
	// has returned. The error is only reported.
	Close(ctx context.Context, res T) error
}

// A Resetter is a [Driver] whose resources carry state from one borrower to the next.
type Resetter[T any] interface {
	// Dirty reports whether the borrower has left state behind in res. The pool calls Dirty at each
	// release, in the goroutine of the borrower. Dirty must not block.
	Dirty(res T) bool
	// Reset returns a dirty resource to the state after Open. Reset runs in a goroutine of the pool.
	// After an error the pool closes the resource. Reset may fail always.
	Reset(ctx context.Context, res T) error
}

// A Validator is a [Driver] that can detect an unusable resource at once, without a round trip.
// Example: the peer has closed the connection, or has sent data not requested by the client.
type Validator[T any] interface {
	// Valid reports whether an idle resource is still usable. The pool calls Valid before the pool
	// lends an idle resource, in the goroutine of the borrower. Valid must not wait. The pool closes a
	// resource that is not valid, and takes another resource. A resource that comes directly from a
	// check or from another borrower has just answered. For such a resource the pool does not call
	// Valid.
	Valid(res T) bool
}

// An Interrupter is a [Driver] that can make a call in progress on res return at once. An
// Interrupter is for a client that does not notice a cancelled context while the client reads. The
// pool watches the context of the use. A context made by the borrower's function is watched by the
// client only.
//
// The pool calls Interrupt if the context of a use is cancelled while the resource is lent. The
// pool calls Interrupt from another goroutine, at most once in a lease. Interrupt must not block.
// After the interrupt the pool closes the resource, with one exception. If the driver is a
// [Resetter] and Dirty reports true, the pool calls Reset, and lends the resource again if Reset
// returns nil.
//
// The pool begins to watch the context of a use at the next step of the pool's clock. A
// cancellation in the first 10 ms of a use is noticed at the end of these 10 ms. The pool does not
// watch deadlines made by pool.WithDeadline: the client must observe ctx.Deadline() by itself.
type Interrupter[T any] interface {
	// Interrupt makes the call in progress on res return at once.
	Interrupt(res T)
}

// An Inspector is a [Driver] that can report more about the server than its health, such as role,
// version or replication state. Pool.Check calls Inspect after a successful check of the
// resource. Keys and values must not contain secrets.
type Inspector[T any] interface {
	// Inspect returns details about the server of res.
	Inspect(ctx context.Context, res T) (map[string]string, error)
}

// An Identifier is a [Driver] that describes its server. Identity.Name is the default of
// pool.Config.Name. If Identity.Name is empty too, New makes the name of the pool from the other
// fields.
type Identifier interface {
	// Identity returns the identity of the server.
	Identity() Identity
}

// A Sizer is a [Driver] with a default of its own for pool.Config.MaxSize, in place of 10. The
// default is usually the default of the wrapped client.
type Sizer interface {
	// DefaultSize returns the size used if Config.MaxSize is 0. The size must be 1 or more. New calls
	// DefaultSize.
	DefaultSize() int
}

// Identity describes the server of a pool, in the terms of OpenTelemetry. An Identity contains no
// secret.
type Identity struct {
	// Name is the name of the pool in all telemetry (db.client.connection.pool.name). The name of a
	// Pool is unique among the open pools of the process.
	Name   string
	System string // db.system.name: "redis", "mongodb"
	// Address is server.address: a host name, an address or the path of a socket. "" if there are
	// several.
	Address   string
	Port      int    // server.port; 0 if there is no port or several ports
	Namespace string // db.namespace: the name or index of a database
}

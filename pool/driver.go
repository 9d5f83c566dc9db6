package pool

import "context"

// A Driver opens, checks and closes the resources of one backend. Only a [Pool] calls it, concurrently for different resources and one
// call at a time for any one resource. Every method gets a context with a deadline of the pool's own (Config.OpenTimeout for Open,
// Config.CheckTimeout for the rest) and must return when it is over; a panic is taken for a failure.
//
// A Driver may also be a [Resetter], a [Validator], an [Interrupter], an [Inspector], a [Classifier], a [Witness], a [Describer], a [Sizer], a
// [Leveler] and an [Attacher]; New looks once. The three methods are enough for a pool with a right judgement of its server:
//
//   - Without a Classifier the pool knows the errors of every backend ([ClassifyCommon]). Any other error is nobody's fault and is not repeated.
//     The pool checks the resource before the next lending; with a negative Config.CheckAfter the pool closes the resource.
//     An error of Open that the pool does not know is the server's, and the use may be repeated, as nothing was sent.
//   - Without a Witness the pool knows failures of other uses by their marks ([UseError]). A raw error of another server's client counts as an
//     error of the own server. An error that the Classifier does not know, such as the function's own, costs a check before the next lending:
//     the error may be the end of the connection in other words.
//   - Without a Resetter the next borrower gets what the last one left behind, such as an open transaction. A client whose connections carry
//     state needs one: Dirty says so, and Reset may fail so that the resource is closed.
type Driver[T any] interface {
	// Open makes a resource that is ready for use. A resource returned together with an error is ignored: Open has cleaned up.
	Open(ctx context.Context) (T, error)
	// Check proves that a resource nobody uses at the moment is fit for use. After an error the resource is closed.
	Check(ctx context.Context, res T) error
	// Close ends the resource, whatever state it is in. It is called exactly once for every resource that Open returned.
	// The slot it occupied is free when Close has returned; its error is only reported.
	Close(ctx context.Context, res T) error
}

// A Resetter is a [Driver] whose resources carry state from one borrower to the next.
type Resetter[T any] interface {
	// Dirty says whether the borrower has left something behind in res. It is called at each release, in the borrower's goroutine, and
	// must not block.
	Dirty(res T) bool
	// Reset brings a dirty resource back to the state that Open leaves, in a goroutine of the pool. After an error the resource is closed.
	Reset(ctx context.Context, res T) error
}

// A Validator is a [Driver] that can tell at once, without a round trip, that a resource is no longer usable: the peer has closed the
// connection, or has sent something that nobody asked for.
type Validator[T any] interface {
	// Valid is asked about each idle resource that is about to be lent, in the borrower's goroutine. Valid must not wait. The pool closes
	// a resource that is not valid, and takes another one. The pool does not ask about a resource that comes from a check, or at once
	// from another borrower: such a resource has just answered.
	Valid(res T) bool
}

// An Interrupter is a [Driver] that can make a call in progress on res return at once, for clients that do not notice a cancelled
// context while they read. The pool calls Interrupt, from another goroutine and at most once for a lease, when the context of a use is
// cancelled while the resource is lent. Interrupt must not block. The resource is closed then, with one exception: a driver that is a
// [Resetter] may say by Dirty that the resource can go on. The pool calls Reset, and lends the resource again if Reset returns nil.
//
// Contexts are watched from the pool's next look at its clock on, so a cancellation in the first 10 ms of a use is noticed by their end.
// Deadlines made by [WithDeadline] are not watched for this purpose: the client is expected to honour ctx.Deadline() by itself.
type Interrupter[T any] interface {
	Interrupt(res T)
}

// An Inspector is a [Driver] that can say more about the server than whether it lives: role, version, replication state. Keys and values
// must not hold secrets. It is called by [Pool.Check] on a resource that has passed its check.
type Inspector[T any] interface {
	Inspect(ctx context.Context, res T) (map[string]string, error)
}

// A Describer is a [Driver] that knows what it connects to. Identity.Name is the default of [Config].Name; when it is empty too, the
// pool's name is made of the other fields.
type Describer interface {
	Identity() Identity
}

// A Sizer is a [Driver] whose users expect another size than 10 where [Config] leaves MaxSize 0: that of the client which the driver wraps.
type Sizer interface {
	// DefaultSize returns what MaxSize is then, 1 or more. It is called by New and Configure.
	DefaultSize() int
}

// Identity says what a pool connects to, in OpenTelemetry's terms. It never holds a secret.
type Identity struct {
	Name      string // the pool's name in all telemetry (db.client.connection.pool.name); a Pool's own is unique among the open ones
	System    string // db.system.name: "redis", "mongodb"
	Address   string // server.address: a host name, an address or a socket's path; "" when there are several
	Port      int    // server.port; 0 when there is none or there are several
	Namespace string // db.namespace: a database's name or index
}

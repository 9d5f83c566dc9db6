// Package pool is a small generic resource pool with layers around the pool.
//
// A [driver.Driver] opens, checks and closes the resources of a single backend. A [Pool] manages
// the resources: the pool lends a resource to one borrower at a time, and serves waiting borrowers
// in order of arrival. The pool opens resources in the background, and closes resources that are
// broken, too old or not needed any more.
//
// Production needs more: retry, circuit breaking, timeouts, tracing, metrics, logging. These
// features are not in this package. They are layers ([Middleware], [Layer]) stacked around the
// pool. Each layer is written once, and works for one-step uses ([Pool.Do], [Get]) and two-step
// uses ([Pool.Acquire]).
//
//	p, err := pool.New(driver, pool.Config{MaxSize: 16}, layers...)
//	defer p.Close(ctx)
//	ping := func(ctx context.Context, conn Conn) error { return conn.Ping(ctx) }
//	err = p.Do(ctx, pool.Op{Name: "PING", Idempotent: true}, ping)
//
// # Terms
//
// A use is a single call of Do, Get or Acquire. The caller is the borrower. In a two-step use the
// borrower gets a [Lease], and ends the lease with Release. A grant is the moment at which a use
// gets its resource. A dial is a call of Open of the driver.
//
// # Settings
//
// [Pool.Configure] replaces the settings declared by code. [Pool.Config] returns the declared
// settings, and [Pool.Effective] the settings in force. Consoles, files and fleets declare settings
// as texts by the faces in [Pool.Tunings]: see package settings. Each change makes an
// [EventConfigured].
//
// # What the package does not contain
//
// The package contains no feature that a layer or a driver can provide, and no feature that needs a
// third-party dependency. The package imports the standard library only.
//
// # Guarantees
//
//   - A resource has at most one borrower at a time. A resource is not lent after a failed check,
//     after an outcome that makes the resource unfit, or after [Pool.Clear].
//   - The pool serves waiters in order of arrival. When capacity becomes free, the pool wakes the
//     first waiter or opens a resource for the first waiter. Exception: a saturated pool passes
//     over a waiter with too little time left for the use.
//   - The cancellation of a caller does not end a dial or a check whose resource can serve another
//     borrower.
//   - For every successful Begin of a layer, End runs exactly once: after return, error, panic,
//     runtime.Goexit and Release.
//   - The pool calls no method of a driver, layer or observer while the pool holds its lock. After
//     Close has returned nil, no goroutine of the pool is left.
//   - Do returns only after its function has returned.
package pool

// Package pool is a small generic resource pool that layers can be stacked around.
//
// A [Driver] opens, checks and closes the resources of one backend. A [Pool] keeps them: it lends a resource to one borrower at a time,
// makes borrowers wait their turn in order of arrival, opens resources in the background, and closes those that are broken, too old or no
// longer wanted. What else production needs (retry, circuit breaking, timeouts, tracing, metrics, logging) is not in this package: it is
// stacked around the pool as layers ([Middleware], [Layer]), each written once and seen by one-step uses ([Pool.Do], [Get]) and two-step
// uses ([Pool.Acquire]) alike.
//
//	p, err := pool.New(driver, pool.Config{MaxSize: 16}, layers...)
//	defer p.Close(ctx)
//	err = p.Do(ctx, pool.Op{Name: "GET", Idempotent: true}, func(ctx context.Context, conn Conn) error {
//		return conn.Ping(ctx)
//	})
//
// # What the core will refuse
//
// Anything a layer can do, anything a driver can do, and anything that needs a third-party dependency: the package imports the standard
// library only.
//
// # Rules it keeps
//
//   - A resource is in one hand at a time, and never handed out after it failed its check, after an outcome that made it suspect, or
//     after [Pool.Clear].
//   - Waiters are served in order of arrival. Every path that frees capacity wakes the first of them or opens a resource for it.
//   - A caller's cancellation never ends the opening or checking of a resource that somebody else can use.
//   - For every Begin of a layer that succeeded, its End runs exactly once: on return, error, panic, runtime.Goexit and Release.
//   - No driver method, layer or observer is called while the pool's lock is held; no goroutine of the pool outlives a completed Close.
//   - The function given to Do is never abandoned: Do returns after it has returned.
package pool

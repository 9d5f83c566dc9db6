// Package driver is the interface between a pool and a backend. An author of a backend uses this
// package; a user of a pool uses package pool.
//
// A [Driver] opens, checks and closes the resources of a single backend. The three methods are
// enough for a pool. A Driver may also implement:
//
//   - [Classifier]: the meaning of the errors of the backend, as a [Class]
//   - [Resetter]: resources with state, such as an open transaction
//   - [Validator]: a resource that notices the end of its connection without a round trip
//   - [Interrupter]: a call in progress that must return when its context is cancelled
//   - [Witness]: hooks that see each command of a resource
//   - [Identifier], [Inspector], [Sizer]: what the pool tells about the server, and its default
//     size
//
// A backend reports the commands of its client with [BeginCommand] and [EndCommand].
// pooltest.RunDriver is the conformance suite for a Driver.
package driver

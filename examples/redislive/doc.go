// Package redislive holds tests of the standard stack over a real Redis, for cases in which time passes in the server: commands that block,
// and leases that outlive the limits of the layers; and for libraries that are written for go-redis. The tests start a server of their own.
package redislive

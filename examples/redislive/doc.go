// Package redislive holds tests of the standard stack with a real Redis. Some cases depend on time
// in the server: blocking commands, and leases longer than the limits of the layers. Other cases
// use libraries written for go-redis. The tests start their own server.
package redislive

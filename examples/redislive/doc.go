// Package redislive holds the tests of the standard stack over a real Redis that need time to pass in the server: commands that block, and
// leases that outlive the limits of the layers. The tests start a server of their own.
package redislive

// Package mongolive holds the tests of mongopool with faults of the server: killed, frozen, cut off
// and slow. The tests start their own server, so they need no installation and disturb no other
// server. FerretDB has no replica sets, transactions and error labels. Package replicaset tests
// these features with a double, and package mongopool tests them with a scripted server.
package mongolive

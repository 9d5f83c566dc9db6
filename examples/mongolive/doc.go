// Package mongolive holds the tests of mongopool that take its server away: killed, frozen, cut off, made slow. They start a server of
// their own, so they need nothing installed and disturb nobody. What a FerretDB cannot show (replica sets, transactions, error labels) is
// tested in package replicaset, against a double, and in mongopool itself, against a scripted server.
package mongolive

// Package pooltest supports tests of drivers and layers. RunDriver and RunMiddleware are
// conformance suites. Every backend and every layer of poolstack passes the suites, and third
// parties may run the suites on their own drivers and layers. Fake is an in-memory driver with
// scripted faults. Main checks for leaked goroutines, for use in TestMain.
package pooltest

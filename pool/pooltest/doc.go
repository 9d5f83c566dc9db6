// Package pooltest holds what tests of drivers and layers need: the conformance suites RunDriver and RunMiddleware, which every
// backend and every layer of poolstack passes and which third parties may run on theirs; Fake, an in-memory driver with scripted
// faults; and Main, a goroutine-leak check for TestMain.
package pooltest

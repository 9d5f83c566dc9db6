// Package observed holds tests of the library's telemetry with the programs of its users: traces in
// a real Jaeger, and metrics and exemplars in a real Prometheus. Further tests send both through a
// real OpenTelemetry Collector. In a test the collector goes away and returns.
//
// Prometheus comes from PATH, and package tools builds the other programs. If a program is missing,
// its tests skip, unless POOLSTACK_LIVE is set. The tests take a minute. All tests skip under the
// race detector, because the tests of the packages already cover data races.
package observed

// Package observed holds the tests that look at the library from outside, with the programs that its users look with: traces in a real
// Jaeger, metrics and exemplars in a real Prometheus, and both through a real OpenTelemetry Collector which goes away meanwhile.
//
// The programs come from package tools and, Prometheus, from PATH. Where they are missing the tests skip, unless POOLSTACK_LIVE is set.
// They take a minute and prove nothing about data races that the tests of the packages do not, so they skip under the race detector.
package observed

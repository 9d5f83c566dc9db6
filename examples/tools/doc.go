// Package tools builds the programs that the slow tests run the library against, where a machine has no package or image of them:
// Jaeger, an OpenTelemetry Collector and docker compose. Each is made from its Go modules, once, as a static program, and kept by
// version outside of the checkout. The first time takes minutes and needs the Go command and its module proxy, nothing else.
package tools

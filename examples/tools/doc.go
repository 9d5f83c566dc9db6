// Package tools builds the programs for the slow tests: Jaeger, an OpenTelemetry Collector and
// docker compose. It is for machines without a package or image of these programs. Each program is
// built once from its Go modules as a static program, and kept by version outside of the checkout.
// The first build takes minutes. It needs the Go command and its module proxy.
package tools

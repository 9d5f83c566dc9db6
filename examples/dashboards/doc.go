// Package dashboards holds the test that reads the library's dashboards with Grafana's own types.
package dashboards

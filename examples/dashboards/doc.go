// Package dashboards contains a test: the types of Grafana read the dashboards of the library.
package dashboards

// Package compose holds the configuration files mounted by docker-compose.yml, and their tests. The
// package has no other code.
package compose

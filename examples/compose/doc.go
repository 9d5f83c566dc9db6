// Package compose holds the configuration files that docker-compose.yml mounts, and the tests of both. It has no code of its own.
package compose

//go:build race

package compose_test

func init() { underRace = true }

package main

import "fmt"

// pingers is how many goroutines ping.
const pingers = 8

// costScenarios show what telemetry costs a call to a server.
func costScenarios(s *servers) []scenario { return []scenario{pingScenario(s), namesScenario(s)} }

func pingScenario(s *servers) scenario {
	return compare("Redis PING, 8 goroutines: telemetry", "Through the standard stack with and without its telemetry layers.", func() []contestant {
		var all []contestant
		for _, v := range telemetryVariants() {
			all = append(all, ourRedis(s, v, pingCommand, pingers))
		}
		return all
	},
		ratio(noop, untold, 1.05), ratio(unsampled, untold, 1.10), ratio(sampled, untold, 1.25),
		ratio(onePer100, untold, unbound), ratio(notSkip, untold, unbound),
		cpu(noop, untold, unbound), cpu(unsampled, untold, unbound), cpu(sampled, untold, unbound))
}

// namesScenario compares few names of operations with many: more than the metrics of a pool tell apart, and spans have plans for.
func namesScenario(s *servers) scenario {
	const few, many = 10, 1000
	called := func(v string, n int) string { return fmt.Sprintf("%d names, %s", n, v) }
	return compare("Redis PING, 8 goroutines: names of operations", "Every call has the next name, in turn.", func() []contestant {
		var all []contestant
		for _, v := range telemetryVariants() {
			if v.name == unsampled || v.name == sampled {
				for _, n := range []int{few, many} {
					named := v
					named.name = called(v.name, n)
					ping := pingCommand
					ping.names = n
					all = append(all, ourRedis(s, named, ping, pingers))
				}
			}
		}
		return all
	}, ratio(called(unsampled, many), called(unsampled, few), 1), ratio(called(sampled, many), called(sampled, few), 1),
		cpu(called(unsampled, many), called(unsampled, few), unbound), cpu(called(sampled, many), called(sampled, few), unbound))
}

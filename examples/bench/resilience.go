package main

import (
	"context"
	"time"
)

// The names of the chains.
const (
	fs           = "failsafe-go"
	raw          = "raw libraries"
	ourParallel  = "ours, parallel"
	ourStep      = "the pool's step"
	ourAround    = "ours, around a pool"
	bareGo       = "gobreaker"
	bareBackoff  = "backoff"
	bareConstant = "backoff, constant"
)

// The deadline of the caller, and the later timeout of the chain. Neither passes during a sample.
const (
	callersLimit = time.Hour
	laterLimit   = 2 * time.Hour
)

func resilienceScenarios() []scenario {
	return []scenario{
		chains("timeout + retry + breaker: success", succeed, 1, false,
			net(our, ourStep, fs, 0.12), net(our, ourStep, raw, 0.23), allocs(our, 1), ratio(our, raw, unbound),
			ratio(ourAround, fs, unbound), ratio(ourAround, raw, unbound)),
		chains("timeout + retry + breaker: success, parallel", succeed, processors(), false,
			net(our, ourStep, fs, 0.10), net(our, ourStep, raw, unbound), allocs(our, 1)),
		scaling(),
		chains("timeout + retry + breaker: success, the caller's deadline is nearer", succeed, 1, true,
			ratio(our, fs, unbound), ratio(our, raw, unbound), noAllocs(our)),
		chains("timeout + retry + breaker: permanent failure", refuse, 1, false, ratio(our, fs, unbound), ratio(our, raw, unbound)),
		chains("timeout + retry + breaker: permanent failure, parallel", refuse, processors(), false, ratio(our, fs, unbound), ratio(our, raw, unbound)),
		chains("timeout + retry + breaker: retried failure", nil, 1, false, ratio(our, fs, unbound), ratio(our, raw, unbound)),
		openChains("timeout + retry + breaker: open breaker", 1),
		openChains("timeout + retry + breaker: open breaker, parallel", processors()),
		breakerAlone("breaker alone: success", 1, 0.24),
		breakerAlone("breaker alone: success, parallel", processors(), 0.15),
		retryAlone(),
		refusalAlone(),
	}
}

// compare returns a scenario with contestants.
func compare(name, about string, open func() []contestant, gates ...gate) scenario {
	return scenario{name, about, func() ([]subject, func()) {
		var subjects []subject
		contestants := open()
		for _, c := range contestants {
			if c.measure != nil {
				subjects = append(subjects, c.subject)
			}
		}
		return subjects, func() {
			for _, c := range contestants {
				c.close()
			}
		}
	}, gates}
}

// chains compares the three chains over op. A nil op means an operation that fails on every other
// call. If nearer is true, the caller's context has a deadline before the chain's timeout.
func chains(name string, op operation, workers int, nearer bool, gates ...gate) scenario {
	about := "Over a no-op handler; the caller's context has no deadline. Each attempt of ours takes and gives back a resource, which is the " +
		"pool's step and not the layers'."
	if nearer {
		about = "Over a no-op handler; the caller's context ends before the limit of the chain."
	}
	return compare(name, about, func() []contestant {
		ctx, cancel, bound := context.Background(), func() {}, limit
		if nearer {
			ctx, cancel = context.WithTimeout(ctx, callersLimit)
			bound = laterLimit
		}
		over := func() operation {
			if op == nil {
				return everySecond()
			}
			return op
		}
		all := []contestant{
			ourChain(ctx, our, workers, over(), ourStack(bound, false)...),
			failsafeChain(ctx, fs, workers, over(), failsafeExecutor(bound, false)),
			rawChain(ctx, raw, workers, bound, over(), false),
			ourChain(ctx, ourStep, workers, over(), anew()),
			poolChain(ctx, ourAround, workers, over(), ourStack(bound, false)...),
		}
		return append(all, contestant{close: cancel})
	}, gates...)
}

// scaling compares our chain in parallel with our chain in a single goroutine.
func scaling() scenario {
	return compare("timeout + retry + breaker: scaling", "Time for each use, by the clock on the wall.", func() []contestant {
		ctx := context.Background()
		return []contestant{
			ourChain(ctx, our, 1, succeed, ourStack(limit, false)...),
			ourChain(ctx, ourParallel, processors(), succeed, ourStack(limit, false)...),
		}
	}, ratio(ourParallel, our, 0.80))
}

// openChains compares the cost of a rejected use.
func openChains(name string, workers int) scenario {
	return compare(name, "The breaker refuses every use; the rest of the chain is around it.", func() []contestant {
		ctx := context.Background()
		return []contestant{
			ourChain(ctx, our, workers, refuse, ourStack(limit, true)...),
			failsafeChain(ctx, fs, workers, refuse, failsafeExecutor(limit, true)),
			rawChain(ctx, raw, workers, limit, refuse, true),
		}
	}, ratio(our, fs, unbound), ratio(our, raw, unbound))
}

func breakerAlone(name string, workers int, atMost float64) scenario {
	return compare(name, "Over a no-op handler.", func() []contestant {
		ctx := context.Background()
		return []contestant{
			ourChain(ctx, our, workers, succeed, ourBreaker(false)),
			rawExecute(bareGo, workers, false),
			failsafeChain(ctx, fs, workers, succeed, failsafeOne(false)),
		}
	}, ratio(our, bareGo, atMost), noAllocs(our), ratio(our, fs, unbound))
}

func retryAlone() scenario {
	about := "An error that must not be repeated. Ours and backoff have growing pauses with jitter and obey the caller's context; the last " +
		"has constant ones."
	return compare("retry alone: permanent failure", about, func() []contestant {
		return []contestant{
			ourChain(context.Background(), our, 1, refuse, ourRetry()),
			ourChain(context.Background(), ourStep, 1, refuse, anew()),
			rawRetry(bareBackoff, refuse, exponential),
			rawRetry(bareConstant, refuse, constant),
		}
	}, net(our, ourStep, bareBackoff, 0.15), noAllocs(our), ratio(our, bareBackoff, unbound), ratio(our, bareConstant, unbound))
}

func refusalAlone() scenario {
	return compare("breaker alone: refusal", "The breaker is open.", func() []contestant {
		ctx := context.Background()
		return []contestant{
			ourChain(ctx, our, 1, refuse, ourBreaker(true)),
			rawExecute(bareGo, 1, true),
			failsafeChain(ctx, fs, 1, refuse, failsafeOne(true)),
		}
	}, ratio(our, fs, 0.08), ratio(our, bareGo, 0.68), allocs(our, 1))
}

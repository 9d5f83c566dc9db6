package metrics

// moduleLevels are the instruments for the levels of the layers and backends of this module. make
// generate writes the list from the layers themselves. The layer needs no list: moduleLevels
// completes the Catalogue.
var moduleLevels = []Instrument{
	{
		Name: "poolstack.retry.budget", Kind: Gauge, Unit: "{attempt}",
		Description: "Number of further attempts that the retry budget can pay for. Absent if retries have no budget.",
		Attributes:  []string{"db.client.connection.pool.name", "poolstack.layer"},
	},
	{
		Name: "poolstack.breaker.state", Kind: Gauge, Unit: "{breaker}",
		Description: "1 for the current state of the circuit breaker, 0 for the other states.",
		Attributes:  []string{"db.client.connection.pool.name", "poolstack.layer", "poolstack.state"},
	},
	{
		Name: "poolstack.breaker.failure_ratio", Kind: Gauge, Unit: "1",
		Description: "Share of failed calls in the circuit breaker's window. While the breaker is not closed: the share with which the breaker opened.",
		Attributes:  []string{"db.client.connection.pool.name", "poolstack.layer"},
	},
	{
		Name: "poolstack.breaker.threshold", Kind: Gauge, Unit: "1",
		Description: "Share of failed calls from which the circuit breaker opens. Absent if no share opens the breaker.",
		Attributes:  []string{"db.client.connection.pool.name", "poolstack.layer"},
	},
	{
		Name: "poolstack.subscription.connections", Kind: Gauge, Unit: "{connection}",
		Description: "Open connections of subscriptions. These connections are not part of the pool. Reported for Redis only.",
		Attributes:  []string{"db.client.connection.pool.name", "poolstack.layer"},
	},
}

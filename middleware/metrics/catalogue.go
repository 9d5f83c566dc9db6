package metrics

import (
	"slices"
	"strings"

	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/earnorm/poolstack/pool"
)

// The attributes added by the library.
const (
	eventKey  = "poolstack.event"  // the kind of an event
	faultKey  = "poolstack.fault"  // none, server, caller, local or elsewhere
	fromKey   = "poolstack.from"   // a layer's state
	keyKey    = "poolstack.key"    // the Key of a level
	layerKey  = "poolstack.layer"  // "pool", or the name of the reporting layer (its kind without a name)
	reasonKey = "poolstack.reason" // the reason

	attemptsKey = "poolstack.attempts" // the number of attempts: 2, 3, 4 or more
	outcomeKey  = "poolstack.outcome"  // success or failure

	stageKey = "poolstack.stage" // the stage of a timeout: acquire, attempt or total
	stateKey = "poolstack.state" // a layer's state, or the maintenance of a resource
	toKey    = "poolstack.to"    // a layer's state
)

const (
	poolNameKey        = string(semconv.DBClientConnectionPoolNameKey)
	connectionStateKey = string(semconv.DBClientConnectionStateKey)
)

// InstrumentKind is the kind of an [Instrument].
type InstrumentKind uint8

// The kinds of instruments.
const (
	Counter       InstrumentKind = iota // counts events when they happen
	UpDownCounter                       // a level, read at each collection; the sum over pools is useful
	Gauge                               // a level, read at each collection; the sum over pools is not useful
	Histogram                           // a distribution, recorded at each event
)

// String returns the OpenTelemetry name of the kind, such as "Counter". String panics if k is not a
// declared Kind.
func (k InstrumentKind) String() string {
	return [...]string{"Counter", "UpDownCounter", "Gauge", "Histogram"}[k]
}

// MarshalText returns the name of the kind. The error is always nil.
func (k InstrumentKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Instrument describes a metric of the [Catalogue].
type Instrument struct {
	Name        string
	Kind        InstrumentKind
	Unit        string // in UCUM notation; counted things are in braces
	Description string
	Attributes  []string // possible attributes; the first, the pool's name, is always present

	// Buckets are the bucket bounds of a Histogram, in Unit. RedisBuckets are the bounds for a Redis
	// pool; nil means Buckets.
	Buckets, RedisBuckets []float64
}

// The index of each instrument in the catalogue.
const (
	operationDuration = iota
	connectionCount
	connectionMax
	connectionIdleMax
	connectionIdleMin
	connectionPending
	connectionTimeouts
	connectionCreateTime
	connectionWaitTime
	connectionUseTime
	failures
	retryAttempts
	retryGiveUps
	retryUses
	transitions
	rejections
	events
	timeouts
	acquireWaits
	acquireTimeout
	connectionMaintenance
	connectionClosed
	openFailures
	checkFailures
	leaks
	leaseOldest

	instruments // number of instruments
)

const connections = "{connection}"

// timeBuckets are bucket bounds in seconds. The bounds separate waits from uses of a server, and
// slow uses from hanging uses. The conventions have no bounds for these metrics.
var timeBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

//go:generate go test -count=1 -run=^TestDocuments$ . -update

// catalogue is the table of all instruments. The instruments named db.client.* are OpenTelemetry's,
// word by word.
var catalogue = [instruments]Instrument{
	operationDuration: {
		Name: "db.client.operation.duration", Kind: Histogram, Unit: "s",
		Description: "Duration of database client operations.",
		Attributes: []string{
			poolNameKey, string(semconv.DBSystemNameKey), string(semconv.DBNamespaceKey), string(semconv.DBOperationNameKey),
			string(semconv.DBCollectionNameKey), string(semconv.DBQuerySummaryKey), string(semconv.DBResponseStatusCodeKey),
			string(semconv.ErrorTypeKey), string(semconv.ServerAddressKey), string(semconv.ServerPortKey),
		},
		Buckets:      []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10},
		RedisBuckets: []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5, 10},
	},
	connectionCount: {
		Name: "db.client.connection.count", Kind: UpDownCounter, Unit: connections,
		Description: "The number of connections that are currently in state described by the `state` attribute.",
		Attributes:  []string{poolNameKey, connectionStateKey},
	},
	connectionMax: {
		Name: "db.client.connection.max", Kind: UpDownCounter, Unit: connections,
		Description: "The maximum number of open connections allowed.",
		Attributes:  []string{poolNameKey},
	},
	connectionIdleMax: {
		Name: "db.client.connection.idle.max", Kind: UpDownCounter, Unit: connections,
		Description: "The maximum number of idle open connections allowed.",
		Attributes:  []string{poolNameKey},
	},
	connectionIdleMin: {
		Name: "db.client.connection.idle.min", Kind: UpDownCounter, Unit: connections,
		Description: "The minimum number of idle open connections allowed.",
		Attributes:  []string{poolNameKey},
	},
	connectionPending: {
		Name: "db.client.connection.pending_requests", Kind: UpDownCounter, Unit: "{request}",
		Description: "The number of current pending requests for an open connection.",
		Attributes:  []string{poolNameKey},
	},
	connectionTimeouts: {
		Name: "db.client.connection.timeouts", Kind: Counter, Unit: "{timeout}",
		Description: "The number of connection timeouts that have occurred trying to obtain a connection from the pool.",
		Attributes:  []string{poolNameKey},
	},
	connectionCreateTime: {
		Name: "db.client.connection.create_time", Kind: Histogram, Unit: "s",
		Description: "The time it took to create a new connection.",
		Attributes:  []string{poolNameKey},
		Buckets:     timeBuckets,
	},
	connectionWaitTime: {
		Name: "db.client.connection.wait_time", Kind: Histogram, Unit: "s",
		Description: "The time it took to obtain an open connection from the pool.",
		Attributes:  []string{poolNameKey},
		Buckets:     timeBuckets,
	},
	connectionUseTime: {
		Name: "db.client.connection.use_time", Kind: Histogram, Unit: "s",
		Description: "The time between borrowing a connection and returning it to the pool.",
		Attributes:  []string{poolNameKey},
		Buckets:     timeBuckets,
	},
	failures: {
		Name: "poolstack.failures", Kind: Counter, Unit: "{failure}",
		Description: "Failed uses, by whose fault the failure was. A use refused by a breaker counts for the fault that opened the breaker.",
		Attributes:  []string{poolNameKey, faultKey},
	},
	retryAttempts: {
		Name: "poolstack.retry.attempts", Kind: Counter, Unit: "{attempt}",
		Description: "Attempts after the first attempt of a use, by the error type of the attempt before. Only attempts that reached the pool count.",
		Attributes:  []string{poolNameKey, reasonKey},
	},
	retryGiveUps: {
		Name: "poolstack.retry.give_ups", Kind: Counter, Unit: "{failure}",
		Description: "Failed uses without another attempt although the error allowed another attempt, by the reason.",
		Attributes:  []string{poolNameKey, reasonKey},
	},
	retryUses: {
		Name: "poolstack.retry.uses", Kind: Counter, Unit: "{use}",
		Description: "Uses with several attempts, by the number of attempts and by the outcome of the use.",
		Attributes:  []string{poolNameKey, attemptsKey, outcomeKey},
	},
	transitions: {
		Name: "poolstack.transitions", Kind: Counter, Unit: "{transition}",
		Description: "Changes of a layer's state, such as the state of a circuit breaker, by the rule that caused the change.",
		Attributes:  []string{poolNameKey, fromKey, toKey, reasonKey, layerKey},
	},
	rejections: {
		Name: "poolstack.rejections", Kind: Counter, Unit: "{rejection}",
		Description: "Uses, or attempts of uses, refused by the pool or by a layer before anything was sent to the server.",
		Attributes:  []string{poolNameKey, layerKey, reasonKey},
	},
	events: {
		Name: "poolstack.events", Kind: Counter, Unit: "{event}",
		Description: "Events without a metric of their own, such as warnings, changes of settings, and the events of backends and other layers.",
		Attributes:  []string{poolNameKey, eventKey, layerKey, reasonKey},
	},
	timeouts: {
		Name: "poolstack.timeouts", Kind: Counter, Unit: "{timeout}",
		Description: "Time limits exceeded, by stage. A use with several attempts may exceed several limits.",
		Attributes:  []string{poolNameKey, stageKey},
	},
	acquireWaits: {
		Name: "poolstack.acquire.waits", Kind: Counter, Unit: "{wait}",
		Description: "Leases that began with a wait for a connection.",
		Attributes:  []string{poolNameKey},
	},
	acquireTimeout: {
		Name: "poolstack.acquire.timeout", Kind: Gauge, Unit: "s",
		Description: "Longest time that a use may wait for a connection. Absent if the pool has no such limit.",
		Attributes:  []string{poolNameKey},
	},
	connectionMaintenance: {
		Name: "poolstack.connection.maintenance", Kind: UpDownCounter, Unit: connections,
		Description: "Connections being opened, checked or closed. These connections count towards the maximum.",
		Attributes:  []string{poolNameKey, stateKey},
	},
	connectionClosed: {
		Name: "poolstack.connection.closed", Kind: Counter, Unit: connections,
		Description: "Closed connections, by the reason.",
		Attributes:  []string{poolNameKey, reasonKey},
	},
	openFailures: {
		Name: "poolstack.open.failures", Kind: Counter, Unit: "{failure}",
		Description: "Connections that could not be opened, by error type. A failure counts once, even if several uses wait for the connection.",
		Attributes:  []string{poolNameKey, reasonKey},
	},
	checkFailures: {
		Name: "poolstack.check.failures", Kind: Counter, Unit: "{failure}",
		Description: "Connections that failed a check or a reset.",
		Attributes:  []string{poolNameKey, reasonKey},
	},
	leaks: {
		Name: "poolstack.leaks", Kind: Counter, Unit: "{lease}",
		Description: "Leases that lasted longer than the pool's limit for leaks.",
		Attributes:  []string{poolNameKey},
	},
	leaseOldest: {
		Name: "poolstack.lease.oldest", Kind: Gauge, Unit: "s",
		Description: "Age of the oldest current lease. 0 if no connection is lent.",
		Attributes:  []string{poolNameKey},
	},
}

// levelInstrument returns the instrument for the levels with the Layer and the Name of l.
func levelInstrument(l pool.Level) Instrument {
	i := Instrument{
		Name: "poolstack." + l.Layer + "." + l.Name, Kind: Gauge, Unit: l.Unit, Description: l.Help,
		Attributes: []string{poolNameKey, layerKey},
	}
	if l.Key != "" {
		i.Attributes = append(i.Attributes, keyKey)
	}
	if l.States != nil {
		i.Attributes = append(i.Attributes, stateKey)
	}
	return i
}

// Catalogue returns all metrics of a pool with the layers and backends of this module. Catalogue
// also returns the metrics of the given levels, such as the levels of another layer. The result is
// a copy.
func Catalogue(more ...pool.Level) []Instrument {
	all := slices.Concat(catalogue[:], moduleLevels)
	for _, l := range more {
		i := levelInstrument(l)
		if !slices.ContainsFunc(all, func(known Instrument) bool { return known.Name == i.Name }) {
			all = append(all, i)
		}
	}
	for i := range all {
		all[i].Attributes = slices.Clone(all[i].Attributes)
		all[i].Buckets = slices.Clone(all[i].Buckets)
		all[i].RedisBuckets = slices.Clone(all[i].RedisBuckets)
	}
	return all
}

// unitSuffixes are the suffixes of the names in Prometheus, by unit.
var unitSuffixes = map[string]string{"s": "_seconds", "ms": "_milliseconds", "By": "_bytes", "%": "_percent", "1": "_ratio"}

// PrometheusName returns the name of the metric in Prometheus. The name has the suffixes and
// underscores of the exporters' default translation strategy, UnderscoreEscapingWithSuffixes. A
// Histogram has three series in Prometheus: the name with _bucket, _sum and _count. Attributes
// become labels, with underscores for the dots.
func (i Instrument) PrometheusName() string {
	name := strings.ReplaceAll(i.Name, ".", "_")
	switch suffix := unitSuffixes[i.Unit]; {
	case suffix != "":
		return strings.TrimSuffix(name, suffix) + suffix
	case i.Kind == Counter:
		return name + "_total"
	}
	return name
}

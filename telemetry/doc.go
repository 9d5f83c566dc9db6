// Package telemetry builds OpenTelemetry's providers for a program from the standard OTEL_* environment variables: traces and metrics
// over OTLP, metrics for Prometheus, and both on the console. It is the one package of this module that knows the SDK; the layers take
// providers, and work with anybody's:
//
//	tel, err := telemetry.Setup(ctx, telemetry.Config{ServiceName: "orders"})
//	if err != nil {
//		return err
//	}
//	defer func() {
//		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
//		defer cancel()
//		err = errors.Join(err, tel.Shutdown(ctx))
//	}()
//	mux.Handle("/metrics", tel.MetricsHandler())
//
// Nothing global is touched unless [Config].SetGlobal asks for it. A collector that is away is no error: Setup does not wait, spans wait
// in a bounded queue and are dropped when it is full, metrics are kept as the sums they are, and Shutdown returns by its deadline. When it is
// back, it is found within ten seconds.
//
// # When nothing is set
//
// The specification's default is to send everything to a collector on localhost. Here OTLP is on for a signal when an endpoint is set, for
// all signals or for this one; without one nothing is sent, so that a program on a laptop does not try for ever. The Prometheus exporter
// is on: it talks to nobody by itself. Both change with OTEL_TRACES_EXPORTER and OTEL_METRICS_EXPORTER, which then say all there is.
// With "otlp" among them and no endpoint, the endpoint is the specification's: http://localhost:4317, or :4318 for http/protobuf (https
// if certificates are set).
//
// A value that is not understood is an error of Setup which names the variable, the value and what is allowed. (The specification has it
// ignored with a warning.) Values of headers are never shown. An empty variable counts as unset.
//
// # Variables
//
// Which exporters:
//
//	OTEL_SDK_DISABLED       true: no-op providers, and no other variable is looked at; default false
//	OTEL_TRACES_EXPORTER    none, or a list of otlp, console; default: see above
//	OTEL_METRICS_EXPORTER   none, or a list of otlp, prometheus, console; default: see above
//
// Who sends. The resource says which service, process and host it is: service.name, service.instance.id (a random UUID for each Setup),
// host.name, os.type, process.pid, process.executable.name, process.runtime.name and .version, and telemetry.sdk.*; never arguments,
// paths or users. These override what the program's Config says (in the specification, code wins):
//
//	OTEL_SERVICE_NAME          service.name; default: OTEL_RESOURCE_ATTRIBUTES, then Config.ServiceName, then unknown_service:EXECUTABLE
//	OTEL_RESOURCE_ATTRIBUTES   key=value,key=value with percent-encoded values; service.instance.id may be given here
//
// OTLP. Each of these, but for the last two, has forms for one signal that precede it, with TRACES_ or METRICS_ after OTLP_:
//
//	OTEL_EXPORTER_OTLP_ENDPOINT             http://HOST:PORT or https://HOST:PORT; for http/protobuf, /v1/traces or /v1/metrics is added
//	                                        to it, but not to a signal's own; for grpc also a target of gRPC's, encrypted unless INSECURE
//	OTEL_EXPORTER_OTLP_PROTOCOL             grpc or http/protobuf; default http/protobuf
//	OTEL_EXPORTER_OTLP_HEADERS              key=value,key=value with percent-encoded values
//	OTEL_EXPORTER_OTLP_TIMEOUT              milliseconds for one export, 0 for no limit; default 10000
//	OTEL_EXPORTER_OTLP_COMPRESSION          gzip or none; default none
//	OTEL_EXPORTER_OTLP_INSECURE             true: no TLS to an endpoint without a scheme; default false
//	OTEL_EXPORTER_OTLP_CERTIFICATE          PEM file of the authorities to trust; default: the system's
//	OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE   PEM file of our own certificate, with
//	OTEL_EXPORTER_OTLP_CLIENT_KEY           PEM file of its key
//	OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE          cumulative, delta or lowmemory; default cumulative
//	OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION   explicit_bucket_histogram (default) or base2_exponential_bucket_histogram
//
// Which spans, and how they wait. The SDK reads these (its limits of spans are 128 each, and none on the length of values):
//
//	OTEL_TRACES_SAMPLER                always_on, always_off, traceidratio, or one of these after parentbased_;
//	                                   default parentbased_always_on
//	OTEL_TRACES_SAMPLER_ARG            ratio for the traceidratio samplers, 0 to 1; default 1
//	OTEL_BSP_SCHEDULE_DELAY            milliseconds between two exports; default 5000
//	OTEL_BSP_EXPORT_TIMEOUT            milliseconds for one export, 0 for no limit; default 30000
//	OTEL_BSP_MAX_QUEUE_SIZE            spans that may wait; default 2048
//	OTEL_BSP_MAX_EXPORT_BATCH_SIZE     spans in one export; default 512
//	OTEL_ATTRIBUTE_COUNT_LIMIT         OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT
//	OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT    OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT
//	OTEL_SPAN_EVENT_COUNT_LIMIT        OTEL_SPAN_LINK_COUNT_LIMIT
//	OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT   OTEL_LINK_ATTRIBUTE_COUNT_LIMIT
//
// Metrics, as they are pushed (otlp, console) and what leads from them to a trace:
//
//	OTEL_METRIC_EXPORT_INTERVAL    milliseconds between two exports; default 60000
//	OTEL_METRIC_EXPORT_TIMEOUT     milliseconds for one export; default 30000
//	OTEL_METRICS_EXEMPLAR_FILTER   trace_based (measurements within a sampled span), always_on or always_off; default trace_based
//
// Not looked at are OTEL_PROPAGATORS (propagation is the program's), OTEL_LOGS_EXPORTER (logs go through log/slog), OTEL_LOG_LEVEL, and
// OTEL_EXPORTER_PROMETHEUS_HOST and _PORT: [Telemetry.MetricsHandler] listens where the program serves it.
//
// # Prometheus
//
// Names follow UnderscoreEscapingWithSuffixes: db.client.operation.duration in seconds is db_client_operation_duration_seconds. Series
// carry no otel_scope_ labels (name, version, schema URL): they repeat what the metric's name says, they are three labels on every
// bucket, and each new version of a library would end all its series and begin others. What they would keep apart, one metric with
// the same attributes from two libraries, is on the page once, and reported. The resource is in target_info. Each Setup has a registry
// of its own and leaves the process's default one alone.
package telemetry

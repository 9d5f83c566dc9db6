// Package telemetry builds OpenTelemetry providers for a program from the standard OTEL_*
// environment variables. The providers send traces and metrics over OTLP, serve metrics to
// Prometheus, and print both on the console. In this module only package telemetry imports the
// OpenTelemetry SDK. The layers accept any provider of the OpenTelemetry API.
//
// OTLP goes over HTTP. A program that imports package otlpgrpc, below this package, has gRPC too.
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
// Setup changes no global state unless [Config].SetGlobal is true. An unreachable collector is not
// an error, and Setup does not wait for a collector. Spans wait in a bounded queue, and further
// spans are dropped when the queue is full. Metrics are kept as cumulative sums. Shutdown returns
// by its deadline. The exporters reconnect within ten seconds after the collector has returned.
//
// The number of dropped spans is told, at most once a minute, to Config.Logger or else to
// OpenTelemetry's global error handler. The metric otel.sdk.processor.span.processed
// (otel_sdk_processor_span_processed_total in Prometheus) counts dropped spans with
// error.type=queue_full, and without error.type the spans that were passed on to an exporter. Each
// exporter of spans has series of its own, by otel.component.name.
//
// # When nothing is set
//
// The specification sends everything to a collector on localhost by default. This package differs:
//
//   - OTLP is on for a signal if an endpoint is set, either for all signals or for this signal.
//     Without an endpoint nothing is sent, so a program on a laptop does not retry forever.
//   - The Prometheus exporter is on. The exporter opens no connection by itself.
//
// OTEL_TRACES_EXPORTER and OTEL_METRICS_EXPORTER replace these defaults with a complete list. If a
// list contains "otlp" and no endpoint is set, the endpoint is the specification's default:
// http://localhost:4317 for grpc and http://localhost:4318 for http/protobuf. The scheme is https
// if certificates are set.
//
// Setup returns an error for an invalid value. The error names the variable, the value and the
// allowed values. (The specification ignores an invalid value and warns.) The values of headers are
// never shown. An empty variable counts as unset.
//
// # Variables
//
// Which exporters are on:
//
//	OTEL_SDK_DISABLED       true: no-op providers, and no other variable is read; default false
//	OTEL_CONFIG_FILE        must not be set: declarative configuration is not supported
//	OTEL_TRACES_EXPORTER    none, or a list of otlp, console; default: see above
//	OTEL_METRICS_EXPORTER   none, or a list of otlp, prometheus, console; default: see above
//
// The resource names the service, the process and the host: service.name, service.instance.id (a
// random UUID for each Setup), host.name, os.type, process.pid, process.executable.name,
// process.runtime.name, process.runtime.version, and telemetry.sdk.*. The resource never contains
// arguments, paths or users. These variables override the program's Config (in the specification,
// code overrides variables):
//
//	OTEL_SERVICE_NAME          service.name; default: OTEL_RESOURCE_ATTRIBUTES,
//	                           then Config.ServiceName, then unknown_service:EXECUTABLE
//	OTEL_RESOURCE_ATTRIBUTES   key=value,key=value with percent-encoded values;
//	                           may set service.instance.id
//
// OTLP. All variables but the last two have a form for a single signal, with TRACES_ or METRICS_
// after OTLP_. The signal's own variable takes precedence:
//
//	OTEL_EXPORTER_OTLP_ENDPOINT             http://HOST:PORT or https://HOST:PORT; http/protobuf
//	                                        appends /v1/traces or /v1/metrics, except to a signal's
//	                                        own endpoint; grpc also accepts a gRPC target, which is
//	                                        encrypted unless INSECURE is true
//	OTEL_EXPORTER_OTLP_PROTOCOL             http/protobuf, and grpc if the program imports otlpgrpc;
//	                                        default http/protobuf
//	OTEL_EXPORTER_OTLP_HEADERS              key=value,key=value with percent-encoded values
//	OTEL_EXPORTER_OTLP_TIMEOUT              milliseconds for an export, 0 for no limit; default 10000
//	OTEL_EXPORTER_OTLP_COMPRESSION          gzip or none; default none
//	OTEL_EXPORTER_OTLP_INSECURE             true: no TLS to an endpoint without a scheme;
//	                                        default false
//	OTEL_EXPORTER_OTLP_CERTIFICATE          PEM file of the trusted authorities;
//	                                        default: the system's
//	OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE   PEM file of the client certificate
//	OTEL_EXPORTER_OTLP_CLIENT_KEY           PEM file of the client certificate's key
//	OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE
//	                                        cumulative, delta or lowmemory; default cumulative
//	OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION
//	                                        explicit_bucket_histogram (default)
//	                                        or base2_exponential_bucket_histogram
//
// Sampling, the queue of spans and the limits of spans. The SDK reads these variables. Without a
// variable the SDK's limits of counts are 128 each, and the length of values has no limit:
//
//	OTEL_TRACES_SAMPLER                always_on, always_off, traceidratio, or any of the three
//	                                   after parentbased_; default parentbased_always_on
//	OTEL_TRACES_SAMPLER_ARG            ratio for the traceidratio samplers, 0 to 1; default 1
//	OTEL_BSP_SCHEDULE_DELAY            milliseconds between two exports; default 5000
//	OTEL_BSP_EXPORT_TIMEOUT            milliseconds for an export, 0 for no limit; default 30000
//	OTEL_BSP_MAX_QUEUE_SIZE            length of the queue in spans; default 2048
//	OTEL_BSP_MAX_EXPORT_BATCH_SIZE     spans in an export; default 512
//	OTEL_ATTRIBUTE_COUNT_LIMIT         OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT
//	OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT    OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT
//	OTEL_SPAN_EVENT_COUNT_LIMIT        OTEL_SPAN_LINK_COUNT_LIMIT
//	OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT   OTEL_LINK_ATTRIBUTE_COUNT_LIMIT
//
// Metrics: the push exporters (otlp, console), and exemplars, which link a metric to a trace:
//
//	OTEL_METRIC_EXPORT_INTERVAL    milliseconds between two exports; default 60000
//	OTEL_METRIC_EXPORT_TIMEOUT     milliseconds for an export; default 30000
//	OTEL_METRICS_EXEMPLAR_FILTER   trace_based (measurements within a sampled span), always_on
//	                               or always_off; default trace_based
//
// The package does not read OTEL_PROPAGATORS (the program chooses its propagators),
// OTEL_LOGS_EXPORTER (logs go through log/slog), OTEL_LOG_LEVEL, OTEL_EXPORTER_PROMETHEUS_HOST and
// OTEL_EXPORTER_PROMETHEUS_PORT (the program serves [Telemetry.MetricsHandler] itself).
//
// # Prometheus
//
// Names follow the translation strategy UnderscoreEscapingWithSuffixes. For example,
// db.client.operation.duration in seconds becomes db_client_operation_duration_seconds.
//
// Series carry no otel_scope_ labels (name, version, schema URL), for three reasons. The labels
// repeat information in the metric's name. Every bucket would have three more labels. Each new
// version of a library would end all its series and begin others. Without the labels, two libraries
// may report the same metric with the same attributes. The page then contains the metric once, and
// the clash is reported.
//
// The resource is in target_info. Each Setup has its own registry and does not use the process's
// default registry.
//
// OpenMetrics allows an exemplar 128 characters of labels. The ids of the trace and the span take
// 63 characters. Attributes that a view has taken off the measurement follow as far as there is
// room; OTLP carries all attributes.
package telemetry

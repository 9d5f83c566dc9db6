package telemetry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/earnorm/poolstack/telemetry/internal/linked"
	"github.com/earnorm/poolstack/telemetry/internal/otlphttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

const (
	exporterOTLP       = "otlp"
	exporterConsole    = "console"
	exporterPrometheus = "prometheus"
	exporterNone       = "none"

	protocolGRPC = "grpc"
	protocolHTTP = "http/protobuf"

	otlpPrefix = "OTEL_EXPORTER_OTLP_"

	// The specification's defaults for an OTLP exporter without an endpoint (OpenTelemetry Protocol
	// Exporter, "Configuration Options").
	defaultPortGRPC    = ":4317"
	defaultPortHTTP    = ":4318"
	defaultOTLPTimeout = 10 * time.Second
)

// environment holds the checked values of the variables.
type environment struct {
	disabled   bool
	prometheus bool
	traces     otlp
	metrics    otlp
}

// otlp is what the variables say about one signal.
type otlp struct {
	exporters []string // otlp and console, in the order asked for
	protocol  string
	http      otlphttp.Config // only over HTTP
	// defaultURL is only for gRPC, and "" where a variable has the endpoint. The exporters over gRPC
	// read all other variables for themselves.
	defaultURL string
}

// signal is the part of a variable's name for a kind of telemetry.
type signal string

const (
	traces  signal = "TRACES"
	metrics signal = "METRICS"
)

// readEnvironment reads all variables and returns all mistakes together.
//
// The specification ignores an invalid value and warns. With that rule a mistyped endpoint sends
// telemetry to localhost, and a mistyped certificate makes the client trust the wrong authority. An
// operator notices a program sooner if the program does not start.
func readEnvironment(noPrometheus bool) (environment, error) {
	if err := check("OTEL_SDK_DISABLED"); err != nil {
		return environment{}, err
	}
	if strings.EqualFold(get("OTEL_SDK_DISABLED"), "true") {
		return environment{disabled: true}, nil
	}
	var wrong mistakes
	wrong.add(checkConfigFile(), checkSampler(), checkPairs("OTEL_RESOURCE_ATTRIBUTES", false))
	wrong.add(checkGRPC()...)
	for _, name := range checkedNames() {
		wrong.add(check(name))
	}
	env := environment{
		traces:  readSignal(traces, &wrong, exporterOTLP, exporterConsole),
		metrics: readSignal(metrics, &wrong, exporterOTLP, exporterPrometheus, exporterConsole),
	}
	if get("OTEL_METRICS_EXPORTER") == "" {
		env.prometheus = !noPrometheus
	} else {
		env.prometheus = slices.Contains(env.metrics.exporters, exporterPrometheus)
	}
	env.metrics.exporters = slices.DeleteFunc(env.metrics.exporters, func(e string) bool { return e == exporterPrometheus })
	return env, errors.Join(wrong...)
}

// mistakes holds each error once. Both signals may read the same variable.
type mistakes []error

func (m *mistakes) add(errs ...error) {
	for _, err := range errs {
		if err != nil && !slices.ContainsFunc(*m, func(e error) bool { return e.Error() == err.Error() }) {
			*m = append(*m, err)
		}
	}
}

// readSignal reads the settings of a signal: the exporters, chosen from known, and how to reach a
// collector.
func readSignal(s signal, wrong *mistakes, known ...string) otlp {
	var o otlp
	var err error
	o.exporters, err = readExporters(s, known)
	wrong.add(err)
	if !slices.Contains(o.exporters, exporterOTLP) {
		return o
	}
	o.protocol = protocolHTTP // the specification's default ("Specify Protocol")
	if _, p := s.otlp("PROTOCOL"); p != "" {
		o.protocol = strings.ToLower(p)
	}
	headers, _ := s.otlp("HEADERS")
	tlsConfig, err := readTLS(s)
	wrong.add(err, checkPairs(headers, true))
	if err := checkEndpoint(s, o.protocol); err != nil {
		wrong.add(err)
		return o
	}
	if o.protocol == protocolHTTP {
		o.http, err = readHTTP(s, tlsConfig)
		wrong.add(err)
	} else if _, endpoint := s.otlp("ENDPOINT"); endpoint == "" {
		o.defaultURL = scheme(tlsConfig) + "localhost" + defaultPortGRPC
	}
	return o
}

// readHTTP reads the configuration of the exporters over HTTP. A value with a mistake becomes zero:
// the mistake has been found by the check of the variable.
func readHTTP(s signal, tlsConfig *tls.Config) (otlphttp.Config, error) {
	cfg := otlphttp.Config{TLS: tlsConfig, Timeout: defaultOTLPTimeout}
	if _, ms := s.otlp("TIMEOUT"); ms != "" {
		n, _ := strconv.Atoi(ms)
		cfg.Timeout = time.Duration(n) * time.Millisecond
	}
	_, compression := s.otlp("COMPRESSION")
	cfg.Gzip = compression == "gzip"
	if _, pairs := s.otlp("HEADERS"); pairs != "" {
		cfg.Headers = map[string]string{}
		for pair := range strings.SplitSeq(pairs, ",") {
			key, value, _ := strings.Cut(pair, "=")
			value, _ = url.PathUnescape(value)
			cfg.Headers[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	path := "v1/" + strings.ToLower(string(s))
	name, endpoint := s.otlp("ENDPOINT")
	if endpoint == "" {
		endpoint = scheme(tlsConfig) + "localhost" + defaultPortHTTP
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return cfg, err
	}
	switch {
	case name == otlpPrefix+"ENDPOINT":
		u = u.JoinPath(path)
	case u.Path == "": // the signal's own endpoint is taken as written
		u.Path = "/"
	}
	cfg.URL = u
	if tlsConfig != nil && u.Scheme == "http" {
		return cfg, fmt.Errorf("telemetry: %s is %q: must be https, or else no certificates be set", name, endpoint)
	}
	return cfg, nil
}

// scheme is the scheme of a default endpoint.
func scheme(tlsConfig *tls.Config) string {
	if tlsConfig != nil {
		return "https://"
	}
	return "http://"
}

// readExporters reads a list such as "otlp,console". If the variable is unset, the list is otlp
// with an endpoint and empty without an endpoint. A program must not dial a collector on localhost
// forever because a library is built in.
func readExporters(s signal, known []string) ([]string, error) {
	name := "OTEL_" + string(s) + "_EXPORTER"
	if get(name) == "" {
		if _, endpoint := s.otlp("ENDPOINT"); endpoint != "" {
			return []string{exporterOTLP}, nil
		}
		return nil, nil
	}
	var list []string
	for e := range strings.SplitSeq(get(name), ",") {
		if e = strings.ToLower(strings.TrimSpace(e)); !slices.Contains(list, e) {
			list = append(list, e)
		}
	}
	if slices.Equal(list, []string{exporterNone}) {
		return nil, nil
	}
	for _, e := range list {
		if !slices.Contains(known, e) {
			return nil, fmt.Errorf("telemetry: %s is %q: must be none, or some of %s, separated by commas",
				name, get(name), strings.Join(known, ", "))
		}
	}
	return list, nil
}

// checkEndpoint checks that the exporter can parse the endpoint. For an invalid endpoint an
// exporter over gRPC would use localhost instead.
func checkEndpoint(s signal, protocol string) error {
	name, value := s.otlp("ENDPOINT")
	if value == "" {
		return nil
	}
	if strings.Contains(value, "@") {
		return fmt.Errorf("telemetry: %s (not shown: it may hold a password): must not name a user: "+
			"credentials go into OTEL_EXPORTER_OTLP_HEADERS", name)
	}
	u, err := url.Parse(value)
	web := err == nil && (strings.EqualFold(u.Scheme, "http") || strings.EqualFold(u.Scheme, "https"))
	switch {
	case protocol == protocolHTTP && (!web || u.Host == ""):
		return fmt.Errorf("telemetry: %s is %q: must be a URL such as http://collector%s", name, value, defaultPortHTTP)
	case err != nil || web && u.Host == "":
		return fmt.Errorf("telemetry: %s is %q: must be a URL such as http://collector%s, or a target of gRPC such as dns:///collector%s",
			name, value, defaultPortGRPC, defaultPortGRPC)
	}
	insecure, flag := s.otlp("INSECURE")
	if web && flag != "" && strings.EqualFold(flag, "true") != strings.EqualFold(u.Scheme, "http") {
		return fmt.Errorf("telemetry: %s is %q: must not contradict %s, which has a scheme: leave it unset", insecure, flag, name)
	}
	return nil
}

// readTLS reads the certificates. It returns nil if no variable names a certificate. The exporters
// ignore an unusable file and then trust the system's authorities, so readTLS returns an error
// instead.
func readTLS(s signal) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	var errs []error
	if name, file := s.otlp("CERTIFICATE"); file != "" {
		pem, err := os.ReadFile(file) //nolint:gosec // the operator names it
		if err != nil {
			errs = append(errs, fmt.Errorf("telemetry: %s: %w", name, err))
		} else if cfg.RootCAs = x509.NewCertPool(); !cfg.RootCAs.AppendCertsFromPEM(pem) {
			errs = append(errs, fmt.Errorf("telemetry: %s is %q: must be a file with certificates in PEM form", name, file))
		}
	}
	for _, prefix := range []string{otlpPrefix + string(s) + "_", otlpPrefix} {
		cert, key := get(prefix+"CLIENT_CERTIFICATE"), get(prefix+"CLIENT_KEY")
		if cert == "" && key == "" {
			continue
		}
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			errs = append(errs, fmt.Errorf("telemetry: %sCLIENT_CERTIFICATE and %sCLIENT_KEY must be a pair of PEM files: %w", prefix, prefix, err))
		}
		cfg.Certificates = []tls.Certificate{pair}
		break
	}
	if len(errs) > 0 || cfg.RootCAs == nil && cfg.Certificates == nil {
		return nil, errors.Join(errs...)
	}
	return cfg, nil
}

// checkPairs checks a list such as "a=1,b=2" with percent-encoded values. If secret is true, the
// error names an entry by position. The exporters' own message would print the entry.
func checkPairs(name string, secret bool) error {
	if get(name) == "" {
		return nil
	}
	for i, pair := range strings.Split(get(name), ",") {
		key, value, found := strings.Cut(pair, "=")
		key = strings.TrimSpace(key)
		_, err := url.PathUnescape(value)
		if found && err == nil && (secret && isToken(key) || !secret && key != "") {
			continue
		}
		if secret {
			return fmt.Errorf("telemetry: %s: entry %d (not shown) must be key=value, with the value percent-encoded", name, i+1)
		}
		return fmt.Errorf("telemetry: %s: entry %d is %q: must be key=value, with the value percent-encoded", name, i+1, pair)
	}
	return nil
}

// isToken reports whether key is a valid header name (RFC 9110, section 5.6.2).
func isToken(key string) bool {
	return key != "" && strings.Trim(key, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// checkConfigFile refuses declarative configuration. A program that ignored the file would go by
// other settings than the settings of the file.
func checkConfigFile() error {
	for _, name := range []string{"OTEL_CONFIG_FILE", "OTEL_EXPERIMENTAL_CONFIG_FILE"} {
		if get(name) != "" {
			return fmt.Errorf("telemetry: %s is %q: must not be set: declarative configuration is not supported, set the OTEL_* variables instead",
				name, get(name))
		}
	}
	return nil
}

// checkGRPC refuses gRPC in a program without the exporters for gRPC.
func checkGRPC() (errs []error) {
	for _, name := range []string{otlpPrefix + "PROTOCOL", otlpPrefix + "TRACES_PROTOCOL", otlpPrefix + "METRICS_PROTOCOL"} {
		if linked.GRPC == nil && strings.EqualFold(get(name), protocolGRPC) {
			errs = append(errs, fmt.Errorf("telemetry: %s is %q: must be %s in this program; for %s, add to the program: "+
				`import _ "github.com/earnorm/poolstack/telemetry/otlpgrpc"`, name, get(name), protocolHTTP, protocolGRPC))
		}
	}
	return errs
}

// checkSampler checks the argument of the traceidratio samplers. Other samplers have no argument.
func checkSampler() error {
	const name = "OTEL_TRACES_SAMPLER_ARG"
	arg := get(name)
	if arg == "" || !strings.HasSuffix(strings.ToLower(get("OTEL_TRACES_SAMPLER")), "traceidratio") {
		return nil
	}
	if ratio, err := strconv.ParseFloat(arg, 64); err != nil || !(ratio >= 0 && ratio <= 1) {
		return fmt.Errorf("telemetry: %s is %q: must be a number from 0 to 1", name, arg)
	}
	return nil
}

// otlp returns the name and the value of the variable in effect: the signal's own variable, or the
// variable for all signals.
func (s signal) otlp(what string) (name, value string) {
	if own := otlpPrefix + string(s) + "_" + what; get(own) != "" {
		return own, get(own)
	}
	return otlpPrefix + what, get(otlpPrefix + what)
}

// readTemporality reads for HTTP which sums and histograms are sent as differences.
func readTemporality() sdkmetric.TemporalitySelector {
	switch strings.ToLower(get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE")) {
	case "delta":
		return sdkmetric.DeltaTemporalitySelector
	case "lowmemory":
		return sdkmetric.LowMemoryTemporalitySelector
	default:
		return sdkmetric.CumulativeTemporalitySelector
	}
}

// readAggregation reads for HTTP which kind of histograms is sent. The size and the scale are the
// specification's defaults.
func readAggregation() sdkmetric.AggregationSelector {
	if !strings.EqualFold(get("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"), "base2_exponential_bucket_histogram") {
		return sdkmetric.DefaultAggregationSelector
	}
	return func(kind sdkmetric.InstrumentKind) sdkmetric.Aggregation {
		if kind == sdkmetric.InstrumentKindHistogram {
			return sdkmetric.AggregationBase2ExponentialHistogram{MaxSize: 160, MaxScale: 20}
		}
		return sdkmetric.DefaultAggregationSelector(kind)
	}
}

// get returns the value of a variable without surrounding white space. In the specification an
// empty variable counts as unset.
func get(name string) string { return strings.TrimSpace(os.Getenv(name)) }

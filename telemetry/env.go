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
)

const (
	exporterOTLP       = "otlp"
	exporterConsole    = "console"
	exporterPrometheus = "prometheus"
	exporterNone       = "none"

	protocolGRPC = "grpc"
	protocolHTTP = "http/protobuf"

	otlpPrefix = "OTEL_EXPORTER_OTLP_"

	// The specification's defaults for an exporter that is asked for by name, without an endpoint
	// (OpenTelemetry Protocol Exporter, "Configuration Options").
	defaultPortGRPC    = ":4317"
	defaultPortHTTP    = ":4318"
	defaultOTLPTimeout = 10 * time.Second
)

// environment is what the variables say, checked.
type environment struct {
	disabled   bool
	prometheus bool
	traces     otlp
	metrics    otlp
}

// otlp is what they say about one signal. What the exporters read for themselves (endpoint, headers, compression, temporality and, over
// gRPC, timeout and certificates) is not repeated here.
type otlp struct {
	exporters  []string // otlp and console, in the order asked for
	protocol   string
	defaultURL string // "" where a variable has the endpoint
	timeout    time.Duration
	tls        *tls.Config // nil: the system's certificates
}

// signal is how a kind of telemetry is called in the names of variables.
type signal string

const (
	traces  signal = "TRACES"
	metrics signal = "METRICS"
)

// readEnvironment reads all variables and returns every mistake in them at once.
//
// The specification wants values that are not understood ignored with a warning. Then a mistyped endpoint sends telemetry to localhost, and
// a mistyped certificate has the wrong one trusted; a program that does not start is found sooner.
func readEnvironment(noPrometheus bool) (environment, error) {
	if err := check("OTEL_SDK_DISABLED"); err != nil {
		return environment{}, err
	}
	if strings.EqualFold(get("OTEL_SDK_DISABLED"), "true") {
		return environment{disabled: true}, nil
	}
	var wrong mistakes
	wrong.add(checkSampler(), checkPairs("OTEL_RESOURCE_ATTRIBUTES", false))
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

// mistakes are errors, each once: both signals may come upon the same variable.
type mistakes []error

func (m *mistakes) add(errs ...error) {
	for _, err := range errs {
		if err != nil && !slices.ContainsFunc(*m, func(e error) bool { return e.Error() == err.Error() }) {
			*m = append(*m, err)
		}
	}
}

// readSignal reads which exporters a signal has, of those that are known, and how it reaches a collector.
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
	o.timeout = defaultOTLPTimeout
	if _, ms := s.otlp("TIMEOUT"); ms != "" {
		n, _ := strconv.Atoi(ms) // checked with all numbers
		o.timeout = time.Duration(n) * time.Millisecond
	}
	headers, _ := s.otlp("HEADERS")
	o.tls, err = readTLS(s)
	wrong.add(err, checkEndpoint(s, o.protocol), checkPairs(headers, true))
	if _, endpoint := s.otlp("ENDPOINT"); endpoint == "" {
		o.defaultURL = defaultURL(s, o)
	}
	return o
}

// readExporters reads a list such as "otlp,console". Unset means otlp where an endpoint says to whom, and nothing otherwise:
// nobody wants a collector on localhost tried for ever because a library is built in.
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

func defaultURL(s signal, o otlp) string {
	scheme := "http://"
	if o.tls != nil {
		scheme = "https://"
	}
	if o.protocol == protocolGRPC {
		return scheme + "localhost" + defaultPortGRPC
	}
	return scheme + "localhost" + defaultPortHTTP + "/v1/" + strings.ToLower(string(s))
}

// checkEndpoint sees to it that the exporter understands the endpoint: on its own it goes to localhost when it does not.
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

// readTLS reads the certificates. The exporters ignore a file that they cannot use, and then trust whom the system trusts.
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

// checkPairs checks a list such as "a=1,b=2", whose values may be percent-encoded. What is wrong with a secret one is told by position:
// the exporters' own complaint prints it.
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

// isToken says whether key may be the name of a header (RFC 9110, section 5.6.2).
func isToken(key string) bool {
	return key != "" && strings.Trim(key, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// checkSampler checks the argument of those samplers that have one.
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

// otlp returns the variable that decides for this signal, and its value: the signal's own, or the one for all signals.
func (s signal) otlp(what string) (name, value string) {
	if own := otlpPrefix + string(s) + "_" + what; get(own) != "" {
		return own, get(own)
	}
	return otlpPrefix + what, get(otlpPrefix + what)
}

// get returns a variable without the white space around it. The specification has an empty one count as unset.
func get(name string) string { return strings.TrimSpace(os.Getenv(name)) }

package main

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/earnorm/poolstack/middleware/breaker"
)

// Admin shows and changes the settings of a breaker in a running program:
//
//	GET  /breaker                                   the snapshot as JSON
//	POST /breaker?failure_ratio=0.5&open_for=500ms  changes settings; the snapshot
//
// Serve Admin on a port for operators only. A change is lost when the program ends.
func Admin(b *breaker.Breaker) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /breaker", func(w http.ResponseWriter, _ *http.Request) { show(w, b) })
	mux.HandleFunc("POST /breaker", func(w http.ResponseWriter, r *http.Request) {
		cfg, err := b.Config(), error(nil)
		if v := r.FormValue("failure_ratio"); v != "" {
			cfg.FailureRatio, err = strconv.ParseFloat(v, 64)
		}
		if v := r.FormValue("open_for"); v != "" && err == nil {
			cfg.OpenFor, err = time.ParseDuration(v)
		}
		if err == nil {
			err = b.Configure(cfg) // names each invalid field; then the old settings hold
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		show(w, b)
	})
	return mux
}

func show(w http.ResponseWriter, b *breaker.Breaker) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(b.Snapshot()) // an error means that the operator has gone
}

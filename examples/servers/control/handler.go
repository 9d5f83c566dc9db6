package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// Unknown returns an error for an unknown server name. It wraps ErrUnknownServer.
func Unknown(name string) error {
	return fmt.Errorf("%w: %q is not %q or %q", ErrUnknownServer, name, Redis, MongoDB)
}

// Handler serves c over HTTP. GET /servers responds with the list of Status. POST
// /servers/NAME/ACTION calls stop, restart, kill, freeze or thaw, and responds with 204 after the
// operation. A failure responds with {"error": "..."} and status 404 for an unknown name, 409 for
// ErrState, and 500 for other errors. Handler rejects cross-origin requests of browsers.
func Handler(c Controller) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /servers", func(w http.ResponseWriter, r *http.Request) {
		all, err := c.Status(r.Context())
		if err != nil {
			fail(w, err)
			return
		}
		answer(w, http.StatusOK, all)
	})
	for action, do := range actions(c) {
		mux.HandleFunc("POST /servers/{name}/"+action, func(w http.ResponseWriter, r *http.Request) {
			if err := do(r.Context(), r.PathValue("name")); err != nil {
				fail(w, err)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		})
	}
	return http.NewCrossOriginProtection().Handler(mux)
}

func actions(c Controller) map[string]func(context.Context, string) error {
	return map[string]func(context.Context, string) error{
		"stop": c.Stop, "restart": c.Restart, "kill": c.Kill, "freeze": c.Freeze, "thaw": c.Thaw,
	}
}

// failure is the body of an error response.
type failure struct {
	Error string `json:"error"`
}

func fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, ErrUnknownServer):
		status = http.StatusNotFound
	case errors.Is(err, ErrState):
		status = http.StatusConflict
	}
	answer(w, status, failure{err.Error()})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // an error means the client has gone
}

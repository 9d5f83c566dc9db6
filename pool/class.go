package pool

import (
	"context"
	"errors"

	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/internal/errtree"
)

// ask classifies err with the driver's Classifier. If the Classifier panics, ask uses the default
// classifier.
func (h *hub) ask(class *driver.Class, err error) {
	asked := false
	defer func() {
		if !asked && recover() != nil {
			*class = defaultClassifier{}.Classify(err)
		}
	}()
	*class = h.classifier.Classify(err)
	asked = true
}

// classifyOpening returns the class of an error of Open. A Classified error keeps its own class.
func (h *hub) classifyOpening(err error) (class driver.Class) {
	plain := isSimple(err)
	if own, ok := errtree.Find(err, anyClassified); ok && !plain {
		class = own.Class()
	} else {
		h.ask(&class, err)
	}
	nameClass(&class, err, plain)
	return class
}

// isSimple reports whether err is a simple error: err wraps nothing, is not Classified, has no
// Timeout or Is method, and is not context.Canceled. Most errors of servers are simple. A look at
// the type then saves several walks along the chain.
func isSimple(err error) bool {
	switch err.(type) { //nolint:errorlint // this very error
	case driver.Classified, interface{ Timeout() bool }, interface{ Is(target error) bool }, interface{ Unwrap() error }, interface{ Unwrap() []error }:
		return false
	}
	return err != context.Canceled //nolint:errorlint // this very error
}

// nameClass fills in Type, unless the driver or a layer has set Type. Type becomes the code of the
// server, a name derived from err, or _OTHER. The OpenTelemetry conventions reserve _OTHER for
// errors without a name. A Miss gets no Type. plain is isSimple(err).
func nameClass(c *driver.Class, err error, plain bool) {
	switch {
	case c.Miss || c.Type != "":
	case c.Code != "":
		c.Type = c.Code
	case !plain && errors.Is(err, context.Canceled):
		c.Type = "canceled"
	case !plain && errtree.IsTimeout(err):
		c.Type = "timeout"
	case c.Broken && c.Fault == driver.FaultServer:
		c.Type = breakage(err)
	default:
		c.Type = "_OTHER"
	}
}

func anyClassified(driver.Classified) bool { return true }

// defaultClassifier is the Classifier for a driver without a Classifier.
type defaultClassifier struct{}

func (defaultClassifier) Classify(err error) driver.Class {
	if class, ok := driver.ClassifyCommon(err); ok {
		return class
	}
	return driver.Class{Fault: driver.FaultElsewhere, Suspect: true}
}

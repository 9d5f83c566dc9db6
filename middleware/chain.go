package middleware

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/earnorm/poolstack/pool"
)

// Insert puts layers into the stack, directly outside of the layer of the kind before. layers
// begins with the outermost layer. The fields of the Stack stay the same layers. A pool made before
// Insert does not change.
//
// The kind of a layer is [pool.LayerInfo].Layer. Among several layers of the kind, Insert takes the
// outermost; before may also be the name of a layer. A [pool.Chain] counts as the outermost of its
// layers, because nothing can be put between the layers of a Chain.
//
// If no layer of the stack has the kind, Insert returns an error with the kinds present, or the
// names of layers with names, and the stack does not change. The same holds for a nil layer.
func (s *Stack) Insert(before string, layers ...pool.Middleware) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := slices.IndexFunc(s.layers, func(l pool.Middleware) bool {
		info, ok := describe(l)
		return ok && before != "" && (info.Layer == before || info.Name == before)
	})
	if at < 0 {
		return fmt.Errorf("middleware: no layer of the stack is of the kind %q: must be among %s", before, strings.Join(s.kinds(), ", "))
	}
	return s.insert(at, layers)
}

// Append puts layers inside of all layers of the stack. Otherwise Append is like Insert. The error
// names a nil layer.
func (s *Stack) Append(layers ...pool.Middleware) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.insert(len(s.layers), layers)
}

// insert puts layers at an index. The caller holds mu.
func (s *Stack) insert(at int, layers []pool.Middleware) error {
	for i, l := range layers {
		if isNil(l) {
			return fmt.Errorf("middleware: layer %d of %d to be inserted is nil: %T", i+1, len(layers), l)
		}
	}
	s.layers = slices.Insert(s.layers, at, layers...)
	return nil
}

// kinds returns the names of the layers in the stack, the outermost first. The caller holds mu.
func (s *Stack) kinds() (all []string) {
	for _, l := range s.layers {
		if info, ok := describe(l); ok {
			all = append(all, cmp.Or(info.Name, info.Layer))
		}
	}
	return all
}

// describe returns the description of the outermost layer in l with a description.
func describe(l any) (info pool.LayerInfo, ok bool) {
	if d, is := l.(pool.Describer); is {
		return d.Describe(), true
	}
	if c, is := l.(pool.Composite); is {
		for _, inner := range c.Unwrap() {
			if info, ok = describe(inner); ok {
				return info, true
			}
		}
	}
	return info, false
}

// isNil reports whether l is nil, a nil pointer or a nil function.
func isNil(l pool.Middleware) bool {
	if l == nil {
		return true
	}
	kind := reflect.TypeOf(l).Kind()
	return (kind == reflect.Pointer || kind == reflect.Func) && reflect.ValueOf(l).IsNil()
}

// Builder collects the layers of a chain made by hand, and the errors of their constructors. The
// zero Builder is empty and ready for use. A Builder belongs to a single goroutine.
//
//	var b middleware.Builder
//	b.Add(timeout.NewTotal(timeout.Config{Limit: time.Second}))
//	b.Add(retry.New(retry.Config{}))
//	layers, err := b.Layers()
type Builder struct {
	layers []pool.Middleware
	errs   []error
}

// Add adds the result of a constructor, inside of the layers added before. Add keeps err for
// Layers. For a layer made without an error, err is nil: b.Add(myLayer, nil).
func (b *Builder) Add(layer pool.Middleware, err error) {
	b.layers = append(b.layers, layer)
	n := len(b.layers)
	switch {
	case err != nil && layer == nil:
		b.errs = append(b.errs, fmt.Errorf("middleware: layer %d: %w", n, err))
	case err != nil:
		b.errs = append(b.errs, fmt.Errorf("middleware: layer %d (%T): %w", n, layer, err))
	case isNil(layer):
		b.errs = append(b.errs, fmt.Errorf("middleware: layer %d is nil: %T", n, layer))
	}
}

// Layers returns the layers for [pool.New], outermost first. The slice is a copy. If a constructor
// returned an error or a nil layer, Layers returns nil and one error with all of these errors, the
// place of each layer and its type.
func (b *Builder) Layers() ([]pool.Middleware, error) {
	if err := errors.Join(b.errs...); err != nil {
		return nil, err
	}
	return slices.Clone(b.layers), nil
}

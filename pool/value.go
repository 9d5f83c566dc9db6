package pool

import "slices"

// value is what one layer keeps in a Call.
type value struct{ key, value any }

// SetValue keeps v for this use under key, which a layer takes from a type of its own, so that its other faces ([UseObserver],
// [CommandObserver]) find what its Begin has made. Unlike a value in a context it costs no allocation if v is a pointer, and is gone when
// the use is over. nil takes it away again. A fork begins with the values of the Call it was made from.
func (c *Call) SetValue(key, v any) {
	c.check()
	i := slices.IndexFunc(c.values, func(kept value) bool { return kept.key == key })
	switch {
	case i < 0 && v != nil:
		c.values = append(c.values, value{key, v})
	case i >= 0 && v != nil:
		c.values[i].value = v
	case i >= 0:
		c.values = slices.Delete(c.values, i, i+1)
	}
}

// Value returns what is kept under key, nil when there is nothing.
func (c *Call) Value(key any) any {
	c.check()
	for i := range c.values {
		if c.values[i].key == key {
			return c.values[i].value
		}
	}
	return nil
}

// dropValues forgets all.
func (c *Call) dropValues() {
	clear(c.values)
	c.values = c.values[:0]
}

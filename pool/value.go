package pool

import "slices"

// value is a value kept in a Call by a layer.
type value struct{ key, value any }

// SetValue keeps v under key for this use. The other methods of the layer ([UseObserver],
// [CommandObserver]) can read the value set by Begin. The type of key should be a private type of
// the layer. A nil v removes the value. A fork begins with the values of its Call. SetValue
// allocates nothing for a pointer, unlike a value in a context, and the value is removed at the end
// of the use.
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

// Value returns the value under key, or nil if there is no value.
func (c *Call) Value(key any) any {
	c.check()
	for i := range c.values {
		if c.values[i].key == key {
			return c.values[i].value
		}
	}
	return nil
}

// dropValues removes all values.
func (c *Call) dropValues() {
	clear(c.values)
	c.values = c.values[:0]
}

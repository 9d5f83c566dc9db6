package pool

// Level is a figure of a layer, or of a driver, that moves without an event, such as what is left of a budget, for who wants to look at it
// from time to time. Levels are listed once, when a layer is attached; what looks at them keeps them, and calls Read.
type Level struct {
	Layer string // whose it is: the layer's kind, as in [Event], or what the driver has
	Name  string // what it is, in a word or a few joined by _
	// States names what the level can be when it is no number but one of several states: Read then returns an index into it. nil for a
	// number.
	States []string
	// Read returns the level as it is now. ok is false when there is none at present, as of a budget that is switched off. It may be
	// called concurrently and at any time, allocates nothing and does not block.
	Read func() (value float64, ok bool)
}

// A Leveler is a [Middleware] (or the [Layer] inside a Bracket), or a [Driver], that has levels. They are the same ones at each call.
type Leveler interface {
	Levels() []Level
}

// Levels returns the levels that the layers have, outermost first, and those of the driver.
func (p *Pool[T]) Levels() []Level {
	var all []Level
	for _, l := range p.levelers {
		_ = contain(l, "Levels", func() error { all = append(all, l.Levels()...); return nil })
	}
	return all
}

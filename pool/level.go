package pool

// Level is a measured value of a layer or a driver that changes without an event, such as the rest
// of a budget. A reader of levels calls [Pool.Levels] once, keeps the Levels, and calls Read from
// time to time.
type Level struct {
	// Layer is the source of the level: the kind of the layer, or a name chosen by the driver.
	Layer string
	// LayerName is the Name of the layer in [LayerInfo]. "" means that the layer has no name.
	LayerName string
	Name      string // the name of the level: a word, or a few words joined by _
	// States contains the names of the states if the level is a state and no number. Read then returns
	// an index into States. States is nil for a number.
	States []string
	// Read returns the present value. ok is false if there is no value at present, for example if a
	// budget is switched off. Read may be called concurrently and at any time. Read does not allocate
	// and does not block.
	Read func() (value float64, ok bool)
}

// A Leveler is a [Middleware] (or the [Layer] inside a Bracket), or a [driver.Driver], with levels.
// Levels returns the same levels at each call.
type Leveler interface {
	Levels() []Level
}

// Levels returns the levels of the layers, from the outermost to the innermost, and then the levels
// of the driver.
func (p *Pool[T]) Levels() []Level {
	var all []Level
	for _, l := range p.levelers {
		_ = contain(l, "Levels", func() error { all = append(all, l.Levels()...); return nil })
	}
	return all
}

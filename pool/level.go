package pool

// Level is a measured value of a layer or a driver that changes without an event, such as the rest
// of a budget. The metrics layer publishes each Level as the gauge "poolstack.LAYER.NAME", where
// LAYER is Layer and NAME is Name.
type Level struct {
	// Layer is the source of the level: the kind of the layer, or a name chosen by the driver. Layer
	// and Name consist of letters, digits and the characters _ . - /
	Layer string
	// LayerName is the Name of the layer in [LayerInfo]. "" means that the layer has no name.
	LayerName string
	Name      string // the name of the level: a word, or a few words joined by _
	// Key tells several levels with the same Name apart, such as the states of breakers for several
	// shards. A layer has a bounded number of keys. "" means that the layer has a single level with
	// the Name.
	Key string
	// Unit is the unit of the values in the notation of UCUM: "s", "By" (bytes), "1" (a share).
	// Counted things are in braces, such as "{use}". "" means a number without a unit.
	Unit string
	// Help is a sentence for people: what the value is, and when the level has no value. "" means no
	// text. Levels with the same Layer and Name have the same Unit and Help.
	Help string
	// States contains the names of the states if the level is a state and no number. Read then returns
	// an index into States. States is nil for a number.
	States []string
	// Read returns the present value. ok is false if there is no value at present, for example if a
	// budget is switched off. Read may be called concurrently and at any time. Read does not allocate
	// and does not block.
	Read func() (value float64, ok bool)
}

// A Leveler is a [Middleware] (or the [Layer] inside a Bracket), or a [driver.Driver], with levels.
// Levels returns a level of each Name at the first call already. Later calls may return further
// keys. Levels may be called concurrently.
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

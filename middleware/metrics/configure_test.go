package metrics

import (
	"context"
	"testing"

	"github.com/earnorm/poolstack/pool"
)

// A larger MaxOperations tells further operations apart. Under a smaller one, operations told apart
// so far stay apart.
func TestConfigure(t *testing.T) {
	reader := newReader(t)
	layer, err := New(Config{MeterProvider: reader.provider, MaxOperations: 1})
	if err != nil {
		t.Fatal(err)
	}
	p, err := pool.New(&server{id: redis}, pool.Config{}, layer)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(context.Background())
	do := func(name string, want int) {
		t.Helper()
		target, name := "t"+name, "n"+name
		if err := p.Do(context.Background(), pool.Op{Name: name, Target: target}, nothing); err != nil {
			t.Fatal(err)
		}
		t1 := layer.recorder.find(p.Identity().Name)
		if known := *t1.operations.known.Load(); len(known) != want {
			t.Errorf("after %s there are %d operations, want %d: %v", name, len(known), want, known)
		}
	}
	configure := func(n int) {
		t.Helper()
		cfg := layer.Config()
		cfg.MaxOperations = n
		if err := layer.Configure(cfg); err != nil || layer.Effective().MaxOperations != n {
			t.Errorf("%v, in force is %+v", err, layer.Effective())
		}
	}
	do("1", 1)
	do("2", 2) // its target is added up
	configure(9)
	do("3", 3)
	do("4", 4)
	configure(1)
	do("3", 4)
	do("5", 5) // everything else is added up
	do("6", 5)
}

package main

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"time"

	"github.com/jackc/puddle/v2"
	commons "github.com/jolestar/go-commons-pool/v2"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// lender is the common interface of the compared pools. An unexpected error panics.
type lender interface {
	// loop acquires and releases n times without pause.
	loop(ctx context.Context, n int)
	// use acquires, calls hold, and releases.
	use(ctx context.Context, hold func()) error
	close()
}

// trivial is the lent resource.
type trivial struct{ _ int }

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// ours is our pool with every feature on, with Acquire and Release as separate steps.
type ours struct{ *pool.Pool[*trivial] }

func newOurs(size int, layers ...pool.Middleware) ours {
	p, err := pool.New[*trivial](trivialDriver{}, pool.Config{
		MaxSize: size, MinIdle: min(2, size), MaxWaiters: 1 << 20,
		AcquireTimeout: time.Minute, MaxLifetime: time.Hour, MaxIdleTime: 10 * time.Minute, CheckAfter: time.Second, KeepAlive: time.Minute,
	}, layers...)
	check(err)
	check(p.Warm(context.Background(), size))
	return ours{p}
}

func (o ours) loop(ctx context.Context, n int) {
	for range n {
		l, err := o.Acquire(ctx, pool.Op{})
		check(err)
		l.Release(nil)
	}
}

func (o ours) use(ctx context.Context, hold func()) error {
	l, err := o.Acquire(ctx, pool.Op{})
	if err != nil {
		return err
	}
	hold()
	l.Release(nil)
	return nil
}

func (o ours) close() { check(o.Close(context.Background())) }

// do is like loop, but with Do.
func (o ours) do(ctx context.Context, n int) {
	for range n {
		check(o.Do(ctx, pool.Op{}, nothing))
	}
}

// get is like loop, but with Get.
func (o ours) get(ctx context.Context, n int) {
	for range n {
		_, err := pool.Get(ctx, o.Pool, pool.Op{}, seven)
		check(err)
	}
}

func nothing(context.Context, *trivial) error      { return nil }
func seven(context.Context, *trivial) (int, error) { return 7, nil }

type trivialDriver struct{}

func (trivialDriver) Open(context.Context) (*trivial, error) { return &trivial{}, nil }
func (trivialDriver) Check(context.Context, *trivial) error  { return nil }
func (trivialDriver) Close(context.Context, *trivial) error  { return nil }

// Classify assigns every error to the server, as the other libraries' breakers do.
func (trivialDriver) Classify(err error) (class driver.Class) {
	class.Fault = driver.FaultServer
	if err == errPassing {
		class.Repeat = driver.RepeatAlways
	}
	return class
}

type puddlePool struct{ *puddle.Pool[*trivial] }

func newPuddle(size int) puddlePool {
	p, err := puddle.NewPool(&puddle.Config[*trivial]{
		Constructor: func(context.Context) (*trivial, error) { return &trivial{}, nil },
		Destructor:  func(*trivial) {},
		MaxSize:     int32(size),
	})
	check(err)
	for range size {
		check(p.CreateResource(context.Background()))
	}
	return puddlePool{p}
}

func (p puddlePool) loop(ctx context.Context, n int) {
	for range n {
		r, err := p.Acquire(ctx)
		check(err)
		r.Release()
	}
}

func (p puddlePool) use(ctx context.Context, hold func()) error {
	r, err := p.Acquire(ctx)
	if err != nil {
		return err
	}
	hold()
	r.Release()
	return nil
}

func (p puddlePool) close() { p.Close() }

type sqlPool struct{ *sql.DB }

func newSQL(size int) sqlPool {
	db := sql.OpenDB(fakeConnector{})
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	db.SetConnMaxLifetime(time.Hour)
	db.SetConnMaxIdleTime(10 * time.Minute)
	conns := make([]*sql.Conn, size)
	for i := range conns {
		var err error
		conns[i], err = db.Conn(context.Background())
		check(err)
	}
	for _, c := range conns {
		check(c.Close())
	}
	return sqlPool{db}
}

func (p sqlPool) loop(ctx context.Context, n int) {
	for range n {
		c, err := p.Conn(ctx)
		check(err)
		check(c.Close())
	}
}

func (p sqlPool) use(ctx context.Context, hold func()) error {
	c, err := p.Conn(ctx)
	if err != nil {
		return err
	}
	hold()
	return c.Close()
}

func (p sqlPool) close() { check(p.Close()) }

// fakeConnector creates connections without any effect.
type fakeConnector struct{}

func (fakeConnector) Connect(context.Context) (sqldriver.Conn, error) { return &fakeConn{}, nil }
func (fakeConnector) Driver() sqldriver.Driver                        { return nil }

type fakeConn struct{ _ int }

func (*fakeConn) Prepare(string) (sqldriver.Stmt, error) { return nil, sqldriver.ErrSkip }
func (*fakeConn) Close() error                           { return nil }
func (*fakeConn) Begin() (sqldriver.Tx, error)           { return nil, sqldriver.ErrSkip }

type commonsPool struct{ *commons.ObjectPool }

func newCommons(size int) commonsPool {
	ctx := context.Background()
	factory := commons.NewPooledObjectFactorySimple(func(context.Context) (any, error) { return &trivial{}, nil })
	cfg := commons.NewDefaultPoolConfig()
	cfg.MaxTotal, cfg.MaxIdle, cfg.MinIdle = size, size, size
	p := commons.NewObjectPool(ctx, factory, cfg)
	p.PreparePool(ctx)
	return commonsPool{p}
}

func (p commonsPool) loop(ctx context.Context, n int) {
	for range n {
		check(p.use(ctx, nil))
	}
}

func (p commonsPool) use(ctx context.Context, hold func()) error {
	r, err := p.BorrowObject(ctx)
	if err != nil {
		return err
	}
	if hold != nil {
		hold()
	}
	return p.ReturnObject(ctx, r)
}

func (p commonsPool) close() { p.Close(context.Background()) }

// channel is a buffered channel of resources, the usual substitute for a pool.
type channel chan *trivial

func newChannel(size int) channel {
	c := make(channel, size)
	for range size {
		c <- &trivial{}
	}
	return c
}

func (c channel) loop(ctx context.Context, n int) {
	for range n {
		select {
		case r := <-c:
			c <- r
		case <-ctx.Done():
		}
	}
}

func (c channel) use(ctx context.Context, hold func()) error {
	select {
	case r := <-c:
		hold()
		c <- r
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c channel) close() {}

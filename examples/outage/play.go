package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/examples/servers/control"
	"github.com/earnorm/poolstack/telemetry"
)

// A play is one run: the servers with the lanes to them, the script, and what is kept of both.
type play struct {
	cfg      config
	script   []fault
	world    *world
	book     *logbook
	tel      *telemetry.Telemetry
	metrics  *metricsServer
	stations []*station
	news     *news

	interrupted bool
	took        time.Duration // from the beginning of the load to its end
	points      []point       // what it did meanwhile
	cutOff      map[*lane]int // operations that were in flight when the wait for them ended
}

// newPlay makes everything that is used; the play must be closed. Nothing is in a server yet but empty collections.
func newPlay(ctx context.Context, cfg config, script []fault, book *logbook) (_ *play, err error) {
	p := &play{cfg: cfg, script: script, book: book, news: &news{}, cutOff: map[*lane]int{}, metrics: &metricsServer{}}
	defer func() {
		if err != nil {
			_, _ = p.close(ctx) // the first error is the one to tell
		}
	}()
	if p.world, err = newWorld(); err != nil {
		return nil, err
	}
	if cfg.set {
		if err = p.world.double(ctx); err != nil {
			return nil, err
		}
	}
	log := slog.New(book)
	redis.SetLogger(redisLog{log})
	if p.tel, err = telemetry.Setup(ctx, telemetry.Config{ServiceName: "outage", Logger: log}); err != nil {
		return nil, err
	}
	if p.metrics, err = serveMetrics(cfg.metrics, p.tel.MetricsHandler()); err != nil {
		return nil, err
	}
	run := fmt.Sprintf("%x", time.Now().UnixNano())
	for _, m := range p.makers(run, log) {
		s := &station{makeStore: m.store, recovery: cfg.recovery}
		p.stations = append(p.stations, s)
		if err := s.open(ctx, m, p.world.servers, cfg.duration); err != nil {
			return nil, fmt.Errorf("%s: %w", m.server, err)
		}
		if cfg.set && m.server == control.MongoDB {
			s.status.Kind += " as a replica set of three"
		}
		s.announce(p.news.tell)
	}
	return p, nil
}

// perform plays: it runs the load for as long as the configuration says and the script needs, and shows it by the viewer.
func (p *play) perform(ctx context.Context, v *viewer) error {
	for _, s := range p.stations {
		if err := s.pool.pool.Warm(ctx, 0); err != nil {
			return fmt.Errorf("%s: warm: %w", s.status.Name, err)
		}
	}
	v.begin(p.settingsText())
	start := time.Now()
	p.news.start = start
	stop, ended := make(chan struct{}), make(chan struct{})
	load, cutOff := context.WithCancel(context.WithoutCancel(ctx))
	defer cutOff()
	var lanes, show sync.WaitGroup
	for i, s := range p.stations {
		for _, l := range s.lanes() {
			lanes.Go(func() { l.run(load, stop, p.cfg.rateOn(l.server), p.cfg.seed+uint64(i)) })
		}
	}
	rec := &recorder{play: p}
	show.Go(func() { v.run(ended) })
	show.Go(func() { rec.run(ended) })
	p.metrics.playing.Store(true)
	err := p.act(ctx, start)
	p.metrics.playing.Store(false)
	close(stop)
	p.took = time.Since(start)
	p.interrupted = ctx.Err() != nil
	close(ended)
	show.Wait()
	p.points = rec.points
	p.drain(&lanes, cutOff)
	return err
}

// act plays the script and lets the load go on for what is left of its time.
func (p *play) act(ctx context.Context, start time.Time) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(p.stations))
	var actors sync.WaitGroup
	for i, s := range p.stations {
		actors.Go(func() {
			if errs[i] = s.suffer(ctx, p.world, of(s.status.Name, p.script), start, p.news.tell); errs[i] != nil {
				cancel() // without the faults there is nothing to see
			}
		})
	}
	actors.Wait()
	sleepUntil(ctx, start.Add(p.cfg.duration))
	return errors.Join(errs...)
}

// drainPatience is how long the bare clients may take to end what is in flight when the load ends.
const drainPatience = 5 * time.Second

// drain waits for what is in flight. What does not end by itself is counted and cut off.
func (p *play) drain(lanes *sync.WaitGroup, cutOff context.CancelFunc) {
	all := make(chan struct{})
	go func() {
		defer close(all)
		lanes.Wait()
	}()
	patience := time.NewTimer(drainPatience)
	defer patience.Stop()
	select {
	case <-all:
	case <-patience.C:
		for _, s := range p.stations {
			for _, l := range s.lanes() {
				p.cutOff[l] = int(l.whole.inFlight.Load())
			}
		}
		cutOff()
		<-all
	}
}

// close gives everything back. It may be called for a play that was made in part. The first error is the pools', the second says what
// spans and metrics could not be sent.
func (p *play) close(ctx context.Context) (pools, telemetry error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	for _, s := range p.stations {
		for _, l := range s.lanes() {
			if err := l.client.close(ctx); l.side == stacked && err != nil {
				pools = errors.Join(pools, fmt.Errorf("%s: close: %w", l.server, err))
			}
		}
	}
	if p.world != nil {
		pools = errors.Join(pools, p.world.close())
	}
	p.metrics.close()
	if p.tel != nil {
		telemetry = p.tel.Shutdown(ctx)
	}
	return pools, telemetry
}

// makers are the servers that the play is about. Run makes the names of what is written unique.
func (p *play) makers(run string, log *slog.Logger) []maker {
	url, uri := os.Getenv(control.EnvRedis), p.world.mongoURI()
	return []maker{
		{
			server: control.Redis,
			managed: func(w *wire) (*managed, error) {
				return newManagedRedis(url, newRedisKeys(run, stacked), w, p.tel, log)
			},
			bare:  func(w *wire) (client, error) { return newBareRedis(url, newRedisKeys(run, bare), w) },
			store: func() (store, error) { return newRedisStore(url, run) },
		},
		{
			server: control.MongoDB,
			managed: func(w *wire) (*managed, error) {
				return newManagedMongo(uri, newMongoNames(run, stacked), w, p.tel, log)
			},
			bare:  func(w *wire) (client, error) { return newBareMongo(uri, newMongoNames(run, bare), w) },
			store: func() (store, error) { return newMongoStore(uri, run) },
		},
	}
}

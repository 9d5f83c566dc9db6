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
	_ "github.com/earnorm/poolstack/telemetry/otlpgrpc" // the demo is shown to collectors of both protocols
)

// A play is a single run of the demo: the servers, the lanes, the script, and the recorded data.
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
	took        time.Duration // duration of the load
	points      []point       // the lanes' activity over time
	cutOff      map[*lane]int // operations still in flight at the end of drain
}

// newPlay creates a play, including the empty collections on the servers. The caller must close the
// play. If newPlay returns an error, it has already closed the play.
func newPlay(ctx context.Context, cfg config, script []fault, book *logbook) (_ *play, err error) {
	p := &play{cfg: cfg, script: script, book: book, news: &news{}, cutOff: map[*lane]int{}, metrics: &metricsServer{}}
	defer func() {
		if err != nil {
			_, _ = p.close(ctx) // report only the first error
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

// perform runs the load and the script, and shows the progress on the viewer.
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

// act plays the script, and then continues the load until its configured duration has passed.
func (p *play) act(ctx context.Context, start time.Time) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(p.stations))
	var actors sync.WaitGroup
	for i, s := range p.stations {
		actors.Go(func() {
			if errs[i] = s.suffer(ctx, p.world, of(s.status.Name, p.script), start, p.news.tell); errs[i] != nil {
				cancel() // without the faults the run is useless
			}
		})
	}
	actors.Wait()
	sleepUntil(ctx, start.Add(p.cfg.duration))
	return errors.Join(errs...)
}

// drainPatience bounds the wait for the bare clients' operations after the end of the load.
const drainPatience = 5 * time.Second

// drain waits for the operations in flight. After drainPatience it counts and cancels the remaining
// operations.
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

// close releases all resources. It also accepts a partly created play. The first error is from the
// pools and from the world. The second error is about spans and metrics that were not sent.
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

// makers returns a maker for each server. The parameter run makes the names of the written data
// unique.
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

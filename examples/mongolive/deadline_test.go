package mongolive

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	meternoop "go.opentelemetry.io/otel/metric/noop"
	tracernoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/earnorm/poolstack/backends/mongopool"
	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/logging"
	"github.com/earnorm/poolstack/middleware/metrics"
	"github.com/earnorm/poolstack/middleware/tracing"
	"github.com/earnorm/poolstack/pool"
)

// slowReplies is a proxy in front of the server. Every third reply takes 60 ms, and the others 10
// ms.
type slowReplies struct {
	listener net.Listener
	replies  atomic.Int64
	dialled  atomic.Int64
	wg       sync.WaitGroup
	mu       sync.Mutex
	conns    []net.Conn
}

func newSlowReplies(t *testing.T) *slowReplies {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &slowReplies{listener: l}
	s.wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			s.dialled.Add(1)
			server, err := net.Dial("tcp", hostOf(t, servers.MongoDBURI()))
			if err != nil {
				_ = client.Close()
				continue
			}
			s.mu.Lock()
			s.conns = append(s.conns, client, server)
			s.mu.Unlock()
			s.wg.Go(func() { _, _ = io.Copy(server, client); _ = server.Close() })
			s.wg.Go(func() { s.answer(client, server); _ = client.Close() })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			_ = c.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

// answer forwards the replies. Each reply begins with its length.
func (s *slowReplies) answer(client io.Writer, server io.Reader) {
	var size [4]byte
	for {
		if _, err := io.ReadFull(server, size[:]); err != nil {
			return
		}
		message := make([]byte, binary.LittleEndian.Uint32(size[:]))
		copy(message, size[:])
		if _, err := io.ReadFull(server, message[4:]); err != nil {
			return
		}
		delay := 10 * time.Millisecond
		if s.replies.Add(1)%3 == 0 {
			delay = 60 * time.Millisecond
		}
		<-time.After(delay)
		if _, err := client.Write(message); err != nil {
			return
		}
	}
}

func hostOf(t *testing.T, uri string) string {
	t.Helper()
	u, err := url.Parse(uri)
	must(t, err)
	return u.Host
}

func (s *slowReplies) uri() string { return "mongodb://" + s.listener.Addr().String() + "/" + database }

// callers is the number of callers, each with deadlines of 40 ms: too short for every third reply.
const callers = 16

// served runs the callers for a while, and returns the number of served finds.
func served(find func(ctx context.Context) error) int {
	var ok atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(2 * time.Second)
	for range callers {
		wg.Go(func() {
			for time.Now().Before(end) {
				ctx, cancel := context.WithTimeout(context.Background(), 40*time.Millisecond)
				if find(ctx) == nil {
					ok.Add(1)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	return int(ok.Load())
}

// findOne finds a document. A missing document is not an error.
func findOne(ctx context.Context, db *mongo.Database) error {
	err := db.Collection("things").FindOne(ctx, bson.D{}).Err()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return nil
	}
	return err
}

// The deadlines are shorter than a part of the replies. Neither the bare pool nor the whole stack
// at its defaults serves fewer finds than the driver alone, from a cold start or warm. The breaker
// rejects no caller, and no deadline costs a socket.
func TestDeadlinesThatRepliesMiss(t *testing.T) {
	for _, tc := range []struct {
		name          string
		layered, warm bool
	}{{"bare pool, cold", false, false}, {"stack, cold", true, false}, {"stack, warm", true, true}} {
		t.Run(tc.name, func(t *testing.T) {
			for tries := 1; ; tries++ {
				n, alone := besideDriver(t, tc.layered, tc.warm)
				switch {
				case alone >= enough && n >= alone*4/5: // allow for chance
					return
				case tries < 3: // allow for a busy machine
				case alone < enough:
					t.Skipf("the driver serves %d finds: on a machine this busy the deadlines of 40 ms tell nothing", alone)
				default:
					t.Fatalf("%d finds were served, where the driver serves %d", n, alone)
				}
			}
		})
	}
}

// enough is the minimum number of the driver's finds for a comparison. A machine that is not busy
// does several hundred, with the race detector too.
const enough = 100

// besideDriver runs the callers of a new pool and the callers of a new client at the same time,
// each side behind its own proxy. It returns the number of served finds of both sides.
func besideDriver(t *testing.T, layered, warm bool) (n, alone int) {
	t.Helper()
	s, beside := newSlowReplies(t), newSlowReplies(t)
	c, err := mongo.Connect(options.Client().ApplyURI(beside.uri()).SetMaxPoolSize(callers))
	must(t, err)
	defer func() { must(t, c.Disconnect(bounded(t))) }()
	stack, err := middleware.Standard(middleware.Options{
		Tracing: tracing.Config{TracerProvider: tracernoop.NewTracerProvider()},
		Metrics: metrics.Config{MeterProvider: meternoop.NewMeterProvider()},
		Logging: logging.Config{Logger: slog.New(slog.DiscardHandler)},
	})
	must(t, err)
	var layers []pool.Middleware
	if layered {
		layers = stack.Layers()
	}
	p, err := mongopool.New(mongopool.Options{URI: s.uri(), Database: database}, pool.Config{MaxSize: callers}, layers...)
	must(t, err)
	defer func() { must(t, p.Close(bounded(t))) }()
	if warm {
		must(t, p.Warm(bounded(t), callers))
	}
	op := pool.Op{Name: "find", Target: "things", Idempotent: true}
	bare := make(chan int, 1)
	go func() { bare <- served(func(ctx context.Context) error { return findOne(ctx, c.Database(database)) }) }()
	n = served(func(ctx context.Context) error {
		return p.Do(ctx, op, func(ctx context.Context, c *mongopool.Conn) error { return findOne(ctx, c.Database()) })
	})
	dialled, refused := s.dialled.Load(), stack.Breaker.Snapshot().Refused
	alone = <-bare
	t.Logf("serves %d over %d connections, the driver beside it %d over %d", n, dialled, alone, beside.dialled.Load())
	if alone >= enough && (dialled >= 50 || refused > 0) { // else the machine is too busy to tell
		t.Errorf("%d connections were dialled, %d uses refused by the breaker", dialled, refused)
	}
	return n, alone
}

package redispool_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/pool"
)

func TestHealth(t *testing.T) {
	master := launch(t, "--repl-diskless-sync-delay", "0")
	replica := launch(t, "--replicaof", master.host()+" "+master.port())
	atMaster := open(t, redispool.Options{Address: master.addr}, pool.Config{})
	atReplica := open(t, redispool.Options{Address: replica.addr}, pool.Config{})
	eventually(t, func() error {
		h := atReplica.Check(t.Context())
		if h.Status != pool.StatusOK || h.Details["master_link_status"] != "up" {
			return fmt.Errorf("%+v", h)
		}
		return nil
	})
	h := atReplica.Check(t.Context())
	if h.Details["role"] != "replica" || h.Latency <= 0 {
		t.Errorf("the replica is %+v", h)
	}
	if _, err := strconv.Atoi(h.Details["master_last_io_seconds"]); err != nil {
		t.Errorf("the replica is %+v", h)
	}
	eventually(t, func() error { // the replica has acknowledged
		h = atMaster.Check(t.Context())
		if h.Status != pool.StatusOK || h.Details["replica_lag_bytes"] != "0" {
			return fmt.Errorf("%+v", h)
		}
		return nil
	})
	if d := h.Details; d["role"] != "master" || d["connected_replicas"] != "1" || !strings.Contains(d["version"], ".") {
		t.Errorf("the master is %+v", h)
	}
	if lag, err := strconv.Atoi(h.Details["replica_lag_seconds"]); err != nil || lag > 2 {
		t.Errorf("the master is %+v", h)
	}
	master.kill()
	eventually(t, func() error {
		if h := atReplica.Check(t.Context()); h.Details["master_link_status"] != "down" {
			return fmt.Errorf("%+v", h)
		}
		return nil
	})
}

// A user with few permissions is not a sign of bad health.
func TestHealthOfTheWeak(t *testing.T) {
	s := launch(t,
		"--user", "weak", "on", ">"+secret, "~*", "+get",
		"--user", "weaker", "on", ">"+secret, "~*", "+get", "+role",
	)
	for user, want := range map[string]map[string]string{
		"weak":   {"not_permitted": "ROLE INFO"},
		"weaker": {"not_permitted": "INFO", "role": "master"},
	} {
		p := open(t, redispool.Options{Address: s.addr, Username: user, Password: secret}, pool.Config{CheckAfter: 1})
		h := p.Check(t.Context())
		if h.Status != pool.StatusOK || fmt.Sprint(h.Details) != fmt.Sprint(want) {
			t.Errorf("%s: %+v", user, h)
		}
		err := p.Do(t.Context(), pool.Op{}, do("set", "k", "v"))
		if err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
			t.Errorf("%s: %v", user, err)
		}
		if st := p.Stat(); st.Opened != 1 || st.Closed.Total() != 0 {
			t.Errorf("%s: %+v", user, st)
		}
	}
}

// A check distinguishes a server without an answer from a server that answers.
func TestCheck(t *testing.T) {
	s := launch(t)
	d := newDriver(t, redispool.Options{Address: s.addr})
	err := using(t, redispool.Options{Address: s.addr}, func(ctx context.Context, c *redispool.Conn) error {
		if err := d.Check(ctx, c); err != nil {
			t.Error(err)
		}
		if err := c.ConfigSet(ctx, "requirepass", secret).Err(); err != nil {
			return err
		}
		if err := do("reset")(ctx, c); err != nil {
			return err
		}
		if err := d.Check(ctx, c); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
			t.Errorf("without authentication: %v", err)
		}
		s.kill()
		if err := d.Check(ctx, c); err == nil {
			t.Error("a dead server passes")
		}
		return errors.New("done")
	})
	if err == nil || err.Error() != "done" {
		t.Error(err)
	}
}

// A server that runs a slow script answers, and a check proves only an answer. Connections are kept
// and opened, so that a borrower can end the script. Pool.Check and the errors of the commands
// report the script.
func TestBusyServer(t *testing.T) {
	s := launch(t, "--busy-reply-threshold", "1")
	idle := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 1, CheckAfter: 1})
	use(t, idle, do("ping"))
	fresh := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 1})
	elsewhere := open(t, redispool.Options{Address: s.addr, DB: 1}, pool.Config{MaxSize: 1, AcquireTimeout: 100 * time.Millisecond})
	other := s.redis(t)
	script := make(chan error, 1)
	go func() { script <- other.Eval(t.Context(), "while true do end", nil).Err() }()
	eventually(t, func() error {
		if err := s.redis(t).Ping(t.Context()).Err(); err == nil {
			return errors.New("the server is not busy")
		}
		return nil
	})

	h := idle.Check(t.Context())
	if h.Status != pool.StatusDegraded || len(h.Reasons) != 1 || !strings.Contains(h.Reasons[0], "BUSY") {
		t.Errorf("health is %v: %v", h.Status, h.Reasons)
	}
	for name, p := range map[string]*pool.Pool[*redispool.Conn]{"idle": idle, "fresh": fresh} {
		err := p.Do(t.Context(), pool.Op{}, do("get", "k"))
		if class := newDriver(t, redispool.Options{}).Classify(err); class != with(refused, "BUSY") {
			t.Errorf("%s: %v is %+v", name, err, class)
		}
	}
	if err := elsewhere.Do(t.Context(), pool.Op{}, do("get", "k")); err == nil || !strings.Contains(err.Error(), "SELECT: BUSY") {
		t.Errorf("a session that cannot be made what it should be: %v", err)
	}
	use(t, idle, do("script", "kill"))
	if err := <-script; err == nil {
		t.Error("the script has come to an end")
	}
	for _, p := range []*pool.Pool[*redispool.Conn]{idle, fresh} {
		use(t, p, do("ping"))
		if st := p.Stat(); st.Opened != 1 || st.CheckFailures != 0 || st.Closed.Total() != 0 {
			t.Errorf("%+v", st)
		}
	}
}

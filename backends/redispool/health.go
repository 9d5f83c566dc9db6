package redispool

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Inspect returns facts about the server, read by ROLE and INFO:
//
//	address                   of the server; only with Sentinels
//	role                      master or replica
//	version                   of the server
//	connected_replicas        of a master: the number of connected replicas
//	replica_lag_seconds       of a master: the longest time since an acknowledgement of a replica
//	replica_lag_bytes         of a master: how far the slowest replica is behind
//	master_link_status        of a replica: up or down
//	master_last_io_seconds    of a replica: the time since the last data from the master
//
// Inspect leaves out a fact if the server does not know the fact. It also leaves out a fact if the
// user has no permission for the command: "not_permitted" then has the names of the refused
// commands. A missing fact is not an error.
func (d *Driver) Inspect(ctx context.Context, c *Conn) (map[string]string, error) {
	var role *redis.Cmd
	var server, replication *redis.StringCmd
	err := c.guarded(ctx, func() error {
		_, err := c.session.Pipelined(ctx, func(p redis.Pipeliner) error {
			role, server, replication = p.Do(ctx, "role"), p.Info(ctx, "server"), p.Info(ctx, "replication")
			return nil
		})
		return err
	})
	var refused []string
	allowed := true
	for _, cmd := range []redis.Cmder{role, server, replication} {
		switch {
		case cmd.Err() == nil:
		case code(cmd.Err()) == "NOPERM":
			allowed = false
			if name := displayName(cmd.Name()); !slices.Contains(refused, name) {
				refused = append(refused, name)
			}
		// The server does not know the command or the section.
		case strings.HasPrefix(cmd.Err().Error(), "ERR "):
			allowed = false
		default:
			return nil, fmt.Errorf("redispool: inspect: %w", cmd.Err())
		}
	}
	if err != nil && allowed {
		return nil, fmt.Errorf("redispool: inspect: %w", err)
	}
	details := map[string]string{}
	if d.finder != nil {
		details["address"] = c.addr
	}
	if words, _ := role.Slice(); len(words) > 0 {
		details["role"] = roleName(fmt.Sprint(words[0]))
	}
	maps.Copy(details, describe(parseInfo(server.Val()), parseInfo(replication.Val())))
	if refused != nil {
		details["not_permitted"] = strings.Join(refused, " ")
	}
	return details, nil
}

// roleName returns the present name of a role.
func roleName(role string) string {
	if role == "slave" {
		return "replica"
	}
	return role
}

// parseInfo parses a reply to INFO: lines of name:value, and headings beginning with #.
func parseInfo(reply string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(reply) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && !strings.HasPrefix(name, "#") {
			info[name] = value
		}
	}
	return info
}

// describe selects the facts reported by Inspect. The fields are explained in
// https://redis.io/docs/latest/commands/info/ .
func describe(server, replication map[string]string) map[string]string {
	details := map[string]string{}
	put := func(name, value string) {
		if value != "" {
			details[name] = value
		}
	}
	put("version", server["redis_version"])
	put("role", roleName(replication["role"]))
	switch details["role"] {
	case "master":
		put("connected_replicas", replication["connected_slaves"])
		seconds, bytes, ok := replicaLag(replication)
		if ok {
			put("replica_lag_seconds", strconv.FormatInt(seconds, 10))
			put("replica_lag_bytes", strconv.FormatInt(bytes, 10))
		}
	case "replica":
		put("master_link_status", replication["master_link_status"])
		put("master_last_io_seconds", replication["master_last_io_seconds_ago"])
	}
	return details
}

// replicaLag returns the largest lags of all replicas, in seconds and in bytes. ok is false if
// there are no replicas. A line of a replica is such as
//
//	slave0:ip=127.0.0.1,port=6380,state=online,offset=28,lag=1
func replicaLag(replication map[string]string) (seconds, bytes int64, ok bool) {
	head, _ := strconv.ParseInt(replication["master_repl_offset"], 10, 64)
	for i := 0; ; i++ {
		line, found := replication["slave"+strconv.Itoa(i)]
		if !found {
			return seconds, bytes, ok
		}
		ok = true
		for field := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(field, "=")
			n, _ := strconv.ParseInt(value, 10, 64)
			switch name {
			case "lag":
				seconds = max(seconds, n)
			case "offset":
				bytes = max(bytes, head-n)
			}
		}
	}
}

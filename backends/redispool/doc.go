// Package redispool provides pools of connections to Redis. It is built on the client
// github.com/redis/go-redis/v9.
//
//	opts, err := redispool.ParseURL("redis://app:password@localhost:6379/0")
//	...
//	p, err := redispool.New(opts, pool.Config{MaxSize: 20})
//	...
//	value, err := pool.Get(ctx, p, pool.Op{Name: "GET", Idempotent: true},
//		func(ctx context.Context, c *redispool.Conn) (string, error) {
//			return c.Get(ctx, "key").Result()
//		})
//
// # One resource is one connection
//
// A [Conn] has a single socket, which is dialled once. Closing the connection ends every command in
// progress on it. A connection that failed stays closed. A connection has a single borrower at a
// time: the function or goroutine that has acquired the connection.
//
// The pool, the retries, the redials and the maintenance notifications of go-redis are off. So each
// attempt sends a command once, and no second set of timeouts applies. For example, an INCR with a
// lost reply has been sent once. Only a layer repeats commands: a layer can tell whether a
// repetition is allowed.
//
// A command returns at once when its deadline passes or its context is cancelled. This holds for
// every context given to a command. For example, a borrower may cancel the context of a single
// command, and the use goes on. The connection is kept if no byte of the reply had arrived. The
// pool then reads the late reply and discards it before the next lease. The pool waits for 4 times
// the delay of recent late replies, at least 250 ms and at most 900 ms. After this time the pool
// closes the connection. The pool closes the connection at once if the command is meant to block
// (BLPOP), or if a part of the reply had arrived. A command is not sent if its context is already
// done.
//
// A borrower may change the session of a connection (SELECT, AUTH, ...). The pool undoes the
// changes by RESET before the next lease. RESET needs Redis 6.2. The pool closes the connection if
// the server is older, or if RESET cannot undo the change. TxPipelined and Watch leave nothing to
// undo.
//
// A command never gets the reply to another command. The connection tracks the replies as they
// arrive. Some readers of go-redis stop inside a reply, at an error or a null in an array. Then the
// connection is closed. A later command of the same use or pipeline returns an [Error], never the
// rest of the earlier reply.
//
// An idle connection is not handed out if the server has closed it or has sent unexpected bytes. On
// Unix systems the pool asks the kernel before it hands out an idle connection. This takes less
// than a microsecond and no round trip. A connection is closed if it is released with a command in
// progress, for example a command of another goroutine of the borrower.
//
// Replies have the form of go-redis: strings of bytes. The caller chooses how to decode a reply
// (Result, Bytes, Int, Scan). No setting decodes replies.
//
// The error of a pipeline is the first error of its commands other than redis.Nil. The error is
// redis.Nil if there is no other error. In go-redis it is the first error of all. Each command
// keeps its own error.
//
// # What errors mean
//
//	                                                        fault    repeat         connection
//	redis.Nil                                               none     never (a miss) kept
//	redis.TxFailedErr                                       none     never          kept
//	WRONGTYPE, ERR, NOSCRIPT, EXECABORT, MOVED, ASK, ...    none     never          kept
//	LOADING, BUSY, MASTERDOWN, CLUSTERDOWN                  server   always         kept
//	NOREPLICAS*, TRYAGAIN*                                  server   always         kept
//	READONLY*, also from a script; max clients reached      server   always         closed
//	OOM*, MISCONF*, NOPERM*; WRONGPASS, DENIED              server   never          kept
//	NOAUTH; disagreement about TLS; unknown MasterName      server   never          closed
//	server, Sentinels or Credentials not reachable          server   always         closed
//	time ran out before a byte of the reply had arrived     server   if idempotent  kept
//	the connection ended, or time ran out, in mid-command   server   if idempotent  closed
//	the context was done before the command was sent        caller   never          kept
//	the borrower's own cancel or deadline of one command    caller   never          kept (1)
//	an argument not encoded, or a reply not decoded         none     never          closed
//	an error of the borrower's own, or of another service   elsewhere never         kept
//
// (1) The connection is closed if a part of the reply had arrived. After a timeout or a
// cancellation, the connection of a command that is meant to block is also closed.
//
// A * marks a narrow class: the server refuses this kind of work and serves other work. CLUSTERDOWN
// is narrow if its text is about a single slot or about writes. In a pool of replicas READONLY has
// the fault none and is never repeated: a write does not belong there.
//
// The fault is the caller's if the caller's own context was done. MOVED and ASK come from a
// cluster. A single connection cannot serve a cluster. A connection that failed is closed even if
// the borrower's function does not return the error.
//
// EXECABORT has the class of its cause if the cause is known. The cause is an earlier error reply
// of the same TxPipelined. If the server refused EXEC itself, the cause is the text after "because
// of:".
//
// An error of the borrower's own is any error other than a reply or an [Error]. A reply or an Error
// counts only if this connection has met it in the present use: the Driver is a [driver.Witness]. A
// function may use another client of go-redis, or another pool, and return an error from there.
// Such an error says nothing about this server. Then the use is a success of the server if the
// server has answered in the use (none). Otherwise the use counts as nothing (elsewhere).
//
// While a server runs a slow script, it answers BUSY to nearly all commands, so nearly every use
// returns BUSY. The connections are sound. The pool keeps, opens and hands out connections as
// usual, so that a borrower can send SCRIPT KILL. Pool.Check reports the pool as degraded. During
// the script the pool cannot open a connection with a DB other than 0 or with a ClientName.
//
// "Repeat: always" is about the refused command. An earlier command of the same use may have
// changed something. Then the use is repeated only if its Op is idempotent. The following commands
// change nothing:
//
//   - a read, by the flags in the server's reply to COMMAND
//   - a command of a transaction before EXEC
//   - a write whose reply reports no change (DEL returning 0)
//
// # What layers see of commands
//
// A layer may observe commands. For each command the layer sees a name ("GET"). The name of a
// pipeline is PIPELINE, and the name of a transaction is MULTI. If all commands have the same name,
// this name follows ("PIPELINE GET"). A pipeline of a single command has the name of the command
// alone. Layers see the names of the commands of Redis, of Valkey and of common modules. Another
// word may be a key or a password by mistake, so the layer sees _OTHER instead. The uses of a
// [Client] are named in the same way, and so is [Error].Command.
//
// An open breaker rejects the operations that have failed, by name and target. All mixed pipelines
// are one operation, and so are all transactions and all scripts. So a breaker that rejects the
// pipelines that write also rejects a pipeline that only reads. Give work of another kind a name of
// its own: Do of the pool with an Op, in place of a method of a Client.
//
// A layer may ask for the text as well. The text has the command and its subcommand, with a ? for
// each argument: "SET ? ?", "CONFIG SET ? ?". A layer does not see the commands that open a
// connection.
//
// # Sentinels
//
// With [Options].Sentinel, or a URL with master_name, Redis Sentinels name the server:
//
//	redis://host:26379/0?master_name=mymaster&addr=host2:26379&addr=host3:26379
//
// The pool queries all Sentinels each time it opens a connection. A Sentinel that hangs causes a
// short delay only. The answer of the latest failover holds. So a Sentinel cut off from the others
// does not lead the pool back to an old primary.
//
// When the Sentinels report a failover (+switch-master), the pool closes all connections to the old
// primary at once, including the connections in use. A use in progress returns the error of a
// connection that ended. A layer repeats the use if a repetition is allowed. [Sentinel].Replicas
// makes a pool of connections to the replicas, for reads.
//
// A failover loses the writes that the old primary has acknowledged and no replica has received. No
// client can prevent the loss. The server's setting min-replicas-to-write and the command WAIT
// bound the loss.
//
// # Moving from go-redis
//
// [NewClient] makes a redis.UniversalClient of a pool. Commands, pipelines, transactions, Watch,
// scripts and iterators work as before. Each command, pipeline and transaction is a single use of
// the pool, and a Watch is a single lease. The directory examples/moving has a program before and
// after the move. The differences:
//
//	redis.NewClient(opts)   p, err := redispool.New(opts, cfg, layers...)
//	                        rdb, err := redispool.NewClient(p, redispool.ClientConfig{})
//	NewFailoverClient       the same, with Options.Sentinel
//	rdb.Close               rdb.Close; then p.Close(ctx), which waits for the leases
//	err == redis.Nil        the same, also for redis.TxFailedErr and replies such as WRONGTYPE
//	other errors            wrapped: use errors.Is, errors.As and redis.HasErrorPrefix
//	error of a pipeline     the first other than redis.Nil; each command keeps its own error
//	rdb.Conn                Pool.Acquire, or Pool.Do for a function
//	SELECT, AUTH, MULTI     alone an error, as the next command has another connection;
//	                        in a pipeline until the end of the pipeline
//	AutoPipeline            an error
//	Subscribe               the same, with a connection beside the pool
//	AddHook                 around each use; DialHook is not called
//
// Options:
//
//	                        go-redis             here
//	PoolSize                10 a processor       pool.Config.MaxSize, the same
//	PoolTimeout             6 s                  pool.Config.AcquireTimeout: 2 s,
//	                                             or two thirds of the caller's time
//	ReadTimeout             5 s                  the same; in the standard stack 3 s for an attempt
//	                                             of a quick operation, or half of the caller's time
//	ContextTimeoutEnabled   false                always true; a deadline keeps the connection
//	MaxRetries              3, also for INCR     by the retry layer, if a repetition is allowed
//	BLPOP                   its timeout + 10 s   the same; with Op.Limit -1 at most the total limit
//	                                             of the standard stack: the caller's deadline, or
//	                                             10 s without a deadline
//
// The standard stack learns which operations are quick. Any other operation may take all of the
// time of the use (see package timeout). ReadTimeout bounds each command in every case.
//
// A BLPOP cut by a deadline may lose a message: the server may send the message just when the
// client gives up. This holds for every client that obeys deadlines. Give BLPOP a timeout of its
// own. Let the timeout end well before the caller's deadline, or before the total limit of 10 s if
// there is no deadline. Then the server ends the wait, and no message is lost.
//
// # Moving from EarnORM
//
//	uri                         ParseURL; the password may hold any characters, percent-encoded
//	min_size, max_size          MinIdle and MaxSize of pool.Config
//	ssl                         the scheme rediss, or Options.TLS
//	ssl_cert_reqs=required      the default of TLS; there is nothing to set
//	ssl_cert_reqs=none          TLS.InsecureSkipVerify
//	encoding, decode_responses  replies are strings of bytes; the caller decodes a reply:
//	                            c.Get(ctx, key).Bytes(), .Result() or .Int()
//	pool.acquire()              Pool.Do, pool.Get or Pool.Acquire
//	check_health, get_metrics   Pool.Check and Pool.Stat
//	cleanup                     Pool.CloseExpired
//
// For ssl, ssl_cert_reqs, encoding and decode_responses, ParseURL returns an error with the same
// advice. ParseURL also has advice for options of other clients.
package redispool

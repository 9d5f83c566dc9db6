// Package redispool makes pools of connections to Redis, over the client github.com/redis/go-redis/v9.
//
//	opts, err := redispool.ParseURL("redis://app:password@localhost:6379/0")
//	...
//	p, err := redispool.New(opts, pool.Config{MaxSize: 20})
//	...
//	value, err := pool.Get(ctx, p, pool.Op{Name: "GET", Idempotent: true},
//		func(ctx context.Context, c *redispool.Conn) (string, error) { return c.Get(ctx, "key").Result() })
//
// # One resource is one connection
//
// A [Conn] is one socket, dialled once. Closing it ends whatever is in progress on it, a dead one stays dead, and what is lent is in
// nobody else's hand. go-redis' own pool, retries, redials and maintenance notifications are off, so that each attempt is one attempt and
// one timeout is in force: an INCR whose reply is lost has been sent once. To try again is for a layer, which knows whether it may.
//
// When a command's deadline passes, or its context is cancelled, the command returns at once. That holds for each context that a command is
// given: also for one with a cancel of the borrower's own, whose use goes on. The connection is kept if nothing of the
// reply had arrived: the pool reads the late reply and throws it away before anybody gets the connection. The pool waits four times as long
// as late replies lately took, at least 250 ms and at most 900 ms, and closes the connection after that. A connection whose command is
// meant to block (BLPOP) is closed at once, and so is one in the midst of a reply. A command whose context is over already is not sent.
//
// What a borrower changes about the session is undone by RESET before the next one gets it, which
// needs Redis 6.2; with older servers, and where RESET does not help, the connection is closed instead. TxPipelined, and Watch, leave
// nothing to undo.
//
// Every reply belongs to the command that asked for it. The connection follows the replies as they arrive. If go-redis stops in the midst of
// a reply, as some of its readers do at an error or a null inside of an array, the connection is closed, and nobody gets the rest: a later
// command of the same use or pipeline gets an [Error]. An idle connection on which something has arrived, or that the server has closed, is
// not lent: before each lending the kernel is asked, which costs less than a microsecond and no round trip (on Unix systems). A connection that
// comes back with a command in progress, as a goroutine of the borrower has sent it, is closed.
//
// Replies come as go-redis gives them: strings of bytes, which are decoded by choice (Result, Bytes, Int, Scan), never by a setting.
//
// The error of a pipeline is the first of its commands' that is more than a miss. It is redis.Nil only if there is no other, where
// go-redis' own would be the first of all; each command keeps the error that is its own.
//
// # What errors mean
//
//	                                                                fault    repeat         connection
//	redis.Nil                                                       none     never (a miss) kept
//	redis.TxFailedErr                                               none     never          kept
//	WRONGTYPE, ERR, NOSCRIPT, EXECABORT, MOVED, ASK, ...            none     never          kept
//	LOADING, BUSY, MASTERDOWN, CLUSTERDOWN; NOREPLICAS*, TRYAGAIN*  server   always         kept
//	READONLY*, also from within a script; max clients reached       server   always         closed
//	OOM*, MISCONF*, NOPERM*; WRONGPASS, DENIED                      server   never          kept
//	NOAUTH; disagreement about TLS                                  server   never          closed
//	no connection could be made, nor the credentials be reached     server   always         closed
//	time ran out before anything of the reply had arrived           server   if idempotent  kept
//	the connection ended, or time ran out, in mid-command           server   if idempotent  closed
//	the context was over before the command was sent                caller   never          kept
//	the borrower's own cancel or deadline of one command            caller   never          kept, closed in mid-reply
//	an argument could not be encoded, a reply not be decoded        none     never          closed
//	an error of the borrower's own, another service's included      elsewhere never         kept
//
// With a * the class is narrow: the server refuses this kind of work and serves other work. CLUSTERDOWN is narrow when its text speaks of
// one slot or of writes.
//
// The pool lays an error at the caller when the caller's own context was over. MOVED and ASK come from a cluster, which one connection
// cannot serve. A connection that failed is closed even if its borrower keeps the error to himself.
//
// EXECABORT is classified by its cause, where it can be seen: an earlier reply of the same TxPipelined or, when EXEC itself was refused,
// what the text names after "because of:".
//
// The borrower's own is all that is neither a reply nor an [Error]. The Driver is a [pool.Witness], so of replies and Errors, too, only those
// count that the connection has met in the present use: what another client of go-redis, or another pool, met in the same function says nothing
// about this server. If this server has answered in the use, the use counts as its success (none); else as nothing (elsewhere).
//
// While a server runs a slow script it answers BUSY to nearly all commands, and so does each use of the pool. Its connections are sound:
// they are kept, lent and opened as ever, so that SCRIPT KILL can be sent by one, and Pool.Check calls the pool degraded. Only a connection
// that has a database to select, or a name to set, cannot be opened meanwhile.
//
// "Repeat: always" speaks of the command that was refused. Once a command of the same use has changed something, or may have, a later
// refusal makes the use repeatable only if its Op is idempotent. A read changes nothing, by the flags that the server gives it in its reply
// to COMMAND; nor does a command of a transaction before EXEC, nor a write that says so (DEL that returns 0).
//
// # What layers see of commands
//
// A layer that observes commands is told of each by its name ("GET"), and of a pipeline as PIPELINE or MULTI, followed by the command's
// name if all are the same. If it asks for their text it gets the command and its subcommand with a ? for each argument: "SET ? ?",
// "CONFIG SET ? ?". Commands of the opening of a connection are not seen.
//
// # Sentinels
//
// With [Options].Sentinel, or a URL with master_name, Redis Sentinels name the server:
//
//	redis://host:26379/0?master_name=mymaster&addr=host2:26379&addr=host3:26379
//
// All Sentinels are asked for each new connection, and one that hangs delays nobody for long. The answer of the latest failover holds, so a
// Sentinel that is cut off from the others does not lead the pool back to an old primary. When a Sentinel reports a failover (+switch-master), all
// connections to the old primary are closed at once, with the uses in progress on them. The error of such a use is that of a connection that ended:
// a layer repeats the use if the use may be repeated. [Sentinel].Replicas makes a pool of connections to the replicas, for reads.
//
// A failover loses writes that the old primary has acknowledged and no replica has received yet. No client can prevent that; min-replicas-to-write
// on the server and WAIT bound the loss.
//
// # For those who come from go-redis
//
// [NewClient] makes a redis.UniversalClient of a pool: commands, pipelines, transactions, Watch, scripts and iterators work as before, and
// each is one use of the pool. examples/moving is a program before and after. What changes:
//
//	redis.NewFailoverClient the same with Options.Sentinel
//	redis.NewClient(opts)   p, err := redispool.New(opts, cfg, layers...); rdb, err := redispool.NewClient(p, redispool.ClientConfig{})
//	rdb.Close               rdb.Close, and p.Close(ctx), which waits for what is lent
//	err == redis.Nil        the same; so are redis.TxFailedErr and replies such as WRONGTYPE
//	other errors            wrapped: errors.Is, errors.As and redis.HasErrorPrefix find what they found
//	the error of a pipeline the first that is more than a miss; each command's own is the same
//	rdb.Conn                Pool.Acquire, or Pool.Do for a function
//	SELECT, AUTH, MULTI     by themselves an error, as the next command has another connection; in a pipeline until its end
//	AutoPipeline            an error
//	Subscribe               the same, with a connection beside the pool
//	AddHook                 around each use; DialHook is not called
//
// Options:
//
//	PoolSize                10 a processor; here pool.Config.MaxSize, the same
//	PoolTimeout             6 s; here pool.Config.AcquireTimeout: 2 s, or two thirds of the caller's time
//	ReadTimeout             5 s; here the same, and in the standard stack 3 s for an attempt of a quick operation, or half of the caller's time
//	ContextTimeoutEnabled   false; here contexts always count, and a deadline does not cost the connection
//	MaxRetries              3 for everything, INCR too; here by the retry layer, for what may be repeated
//	BLPOP                   its own timeout and 10 s; here the same, and with Limit -1 in its Op at most the total limit of the standard stack:
//	                        the caller's deadline, or 10 s
//
// The standard stack learns which operations are quick, and leaves the others all of the use's time (see package timeout). ReadTimeout bounds each
// command in every case.
//
// A BLPOP that is cut may lose a message: the server has sent the message in the moment in which the client gave up. That holds for every
// client that heeds deadlines. Give BLPOP a timeout of its own that ends well before the caller's deadline, or before the total limit of 10 s
// if the caller has none: then the server ends the wait, and nothing is lost.
//
// # For those who come from EarnORM
//
//	uri                         ParseURL; the password may hold anything once it is percent-encoded
//	min_size, max_size          MinIdle and MaxSize of pool.Config
//	ssl                         the scheme rediss, or Options.TLS
//	ssl_cert_reqs=required      what TLS does; there is nothing to set
//	ssl_cert_reqs=none          TLS.InsecureSkipVerify
//	encoding, decode_responses  replies are strings of bytes; c.Get(ctx, key).Bytes() or .Result() or .Int() decodes as you like
//	pool.acquire()              Pool.Do, pool.Get or Pool.Acquire
//	check_health, get_metrics   Pool.Check and Pool.Stat
//	cleanup                     Pool.Cleanup
//
// ParseURL says the same of the old names, and of those of other clients, when it meets them.
package redispool

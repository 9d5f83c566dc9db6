// Package mongopool makes pools of leases on MongoDB. The package uses the official driver
// go.mongodb.org/mongo-driver/v2.
//
//	opts := mongopool.Options{URI: os.Getenv("MONGODB_URI"), Database: "shop"}
//	p, err := mongopool.New(opts, pool.Config{MaxSize: 20})
//	...
//	op := pool.Op{Name: "insert", Target: "users"}
//	err = p.Do(ctx, op, func(ctx context.Context, c *mongopool.Conn) error {
//		_, err := c.Collection("users").InsertOne(ctx, bson.D{{Key: "name", Value: "John"}})
//		return err
//	})
//
// # A single client for all leases
//
// The driver discovers the servers of a deployment, monitors the servers, and keeps sockets to each
// server. With a client for each resource, every client would repeat this work: 20 clients against
// a single server mean 40 sockets and 80 goroutines. A single client for 20 leases has 22 sockets
// and 4 goroutines. Therefore all resources of a pool share a single mongo.Client.
//
// A [Conn] is the pool's resource: the right to use the shared client. MaxSize bounds the number of
// concurrent uses. 0 means 100, the default of mongo.Client. Waiters wait in the pool, in order of
// arrival. The pool's layers see every use.
//
// The client has at most MaxSize sockets to a server. A lease that runs a single command at a time
// finds a free socket, with an exception: after a command was given up, the driver keeps the socket
// busy for up to 400 ms and waits for the late reply. A lease that runs several commands at once
// may make other leases wait for a socket in the driver. [Stats].SocketWait shows such waits.
//
// Opening a resource opens a socket. So Pool.Warm and MinIdle mean open connections, and not only
// the permission to open connections. The driver's own minPoolSize would add at most ten sockets in
// ten seconds. MaxIdleTime closes idle resources and also idle sockets, within ten seconds.
// MaxLifetime and Discard end resources, and leave the sockets to the next resource. The driver
// closes failed sockets, and moves by itself to a server that takes over.
//
// The client is made for the first resource and disconnected after the last resource. So a closed
// pool leaves nothing behind. A pool with a MinIdle of 0 and a MaxIdleTime has no socket left after
// a time without uses.
//
// # Servers that do not answer, or were slow
//
// When no server answers, opening a resource fails at once, with the reason. The driver alone would
// wait 30 s.
//
// The client is silent when the opening or the check of a resource has waited for half of
// CheckTimeout, and the client has had no answer meanwhile. If twice the latest round trip is
// longer, the client is silent only after this longer time. The next resource that is opened gets a
// new client. Once the new client has had an answer, each other resource moves to the new client
// when the resource is released or checked. During the move there may be twice as many sockets. So
// the pool serves again as soon as a network that dropped all packets works again. The driver alone
// would continue with sockets that never answer.
//
// The driver sends no command if the context has less time left than the shortest of the round
// trips that the client remembers. A client made while the server was slow would hold back such
// commands for up to ten seconds after the server has become fast again. So after a command was
// held back the pool pings the server, at most twice a second. If the reply comes within half of
// the time that the use had left, a new client takes over.
//
// # Cursors and sessions
//
// A cursor belongs to the use that opened the cursor. Close the cursor, or read the cursor to its
// end, before the use ends. If pool.Config.LeakAfter is set, the pool reports a cursor left open by
// a [pool.EventWarning] with the borrower's stack, at most once in ten seconds. [Stats] counts the
// cursors.
//
// Behind a load balancer (loadBalanced=true) an open cursor holds a socket of its own. So the pool
// replaces the shared client there after a use that left a cursor open. Otherwise the next borrower
// would wait in vain for the socket.
//
// [Conn.StartSession] begins a session for causally consistent reads or for transactions. The
// session ends with the lease at the latest. [Conn.WithTransaction] begins a session and runs a
// transaction in the session. Both need a server with sessions. Transactions need a replica set or
// a sharded cluster.
//
// # The driver's retries
//
// The driver's own retries are off. By default the driver sends a command again when the reply is
// lost. In a context with a deadline, which every use should have, the driver repeats the command
// without limit until the deadline. Against a server that ends a find at once (ExceededTimeLimit),
// the driver sent the find 1,286 times within 100 ms. The driver has no retry budget, and does not
// see an open breaker or the attempts of a layer around the driver.
//
// So an attempt of a layer is a single command here. Package retry repeats the attempts, and asks
// [Driver.Classify] whether an error allows a retry. Options.RetryReads and RetryWrites turn the
// driver's retries on. The URI options retryReads=true and retryWrites=true have the same effect. A
// URI copied from Atlas may contain these options. Stats.Commands, divided by the pool's Acquires,
// then shows the number of commands for each use. Layers that observe commands see each command.
//
// Two loops stay: [Conn.WithTransaction] runs a transaction again, and the driver resumes a change
// stream after a failure of its getMore, once for each failure.
//
// Without the driver's retries a write whose reply is lost fails, unless its Op is Idempotent. On a
// replica set the driver could repeat the write: the server carries out an insert once, however
// often the driver sends the insert. Set RetryWrites where such writes matter. Package retry
// repeats a use without writes in any case.
//
// # What errors mean
//
//	                                                                   fault      repeat
//	ErrNoDocuments, not joined with a failure                          none       never (a miss)
//	duplicate key, bad value, unknown command, ...                     none       never
//	WriteConflict, CursorNotFound, QueryPlanKilled, StaleConfig        none       if idempotent
//	SnapshotUnavailable                                                none       always
//	the borrower's own error, also a network error of another service  elsewhere  never
//	no server, no socket, sockets closed, handshake failed             server     always
//	no server, and every known server has failed                       certain    always
//	NotPrimaryOrSecondary; the codes of overload                       server     always
//	labels SystemOverloadedError and RetryableError                    server     always (RetryAfter)
//	label SystemOverloadedError alone                                  server     never
//	labels NoWritesPerformed, TransientTransactionError                by code    always
//	label UnknownTransactionCommitResult                               by code    if idempotent
//	label NetworkError: reply lost or late                             server     if idempotent
//	shutting down, a shard not reached, ExceededTimeLimit              server     if idempotent
//	AuthenticationFailed, certificate not accepted                     server     never
//	NotWritablePrimary, NotPrimaryNoSecondaryOk                        narrow     always
//	MaxTimeMSExpired, stepped down, interrupted by a change of state   narrow     if idempotent
//	written but not confirmed as asked                                 narrow     if idempotent
//	Unauthorized, disk full, writes blocked, InternalError             narrow     never
//	not sent: too little time left                                     caller     always
//	context cancelled, or over before anything was sent                caller     never
//	a deadline that the borrower's function has given to a command     caller     never
//	client disconnected by a borrower                                  local      never
//
// Package retry repeats failures of the server and of layers, if the last column allows a retry.
// Package retry does not repeat an error that is nobody's fault (none). For such an error the last
// column says whether the caller may repeat the use.
//
// Narrow is a fault of the server for a single kind of work ([driver.Class].Narrow): the server
// answers, mostly at once, and serves other work. The driver tells the server how much time is left
// (maxTimeMS). So a server that is too slow answers MaxTimeMSExpired at the deadline.
//
// A bulk write has the class of its gravest error, and is repeated only if idempotent.
//
// The pool attributes an error to the caller if the caller's own context was over, unless the error
// is certain ([driver.Class].Certain). Such errors occur because the driver lets a command wait
// until its deadline, even if the driver knows that every server is dead.
//
// Only a disconnected client makes the resource unfit. The driver closes failed sockets by itself.
//
// The label RetryableWriteError has no row. The label means that the same write may be sent again
// under its transaction number. By this number the server recognizes a write already carried out.
// Only the driver can send the same number again: with RetryWrites.
//
// In a lease without a deadline the driver's heartbeat ends a command that a frozen server does not
// answer. The heartbeat finds the server dead and closes all sockets. This takes at most the
// heartbeat's interval and two ConnectTimeouts (20 s by default; 18 s were measured).
//
// # The record of a use: whose error, and may the use be repeated
//
// The Driver is a [driver.Witness]: the Driver sees each command of a use. If no command of the use
// failed with the code of a raw error, the error is from another MongoDB client, and counts as
// nothing. A function that has sent no command proves nothing about the server, whatever error the
// function returns.
//
// Once a use has changed something, or may have, no later error makes the whole use repeatable,
// unless its Op is Idempotent. A write without effect does not count. A write in a transaction does
// not count before the commit. In case of doubt a command counts as a change. Examples:
//
//   - a command without a reply
//   - PrimarySteppedDown and similar codes, which can interrupt a command midway
//   - an aggregate without results, which may have had an $out
//
// These rules need commands sent with the function's context, or with the context of the lease
// ([pool.Lease].Context). A command in another context may belong to any use; for example,
// cursor.Close(context.Background()) sends such a command. If such a command ends during a use, the
// error of the use is judged by the error alone. If such a command has changed something, the use
// is not repeated, unless its Op is Idempotent.
//
// # Telemetry
//
// Pools made by New and NewPool report events of the client's sockets and servers to the layers
// that observe events ([EventSocketOpened] and the other kinds). [Driver.Stats] counts the sockets,
// the servers and the commands.
//
// Such pools report each command to the layers that observe commands, with the command's name, with
// the collection or the database, and with the server. An update or delete of several statements
// has the name "BATCH update" or "BATCH delete". A command unknown to this package has the name
// _OTHER, because the first key of the document may be a value by mistake.
//
// A layer can ask for the text of commands. The text is the document with "?" in place of each
// value: {"find":"people","filter":{"age":"?"}}. The names of fields and of the collection stay. Of
// a command with credentials only the command's name stays, and nothing of an unknown command.
//
// # Moving from EarnORM
//
//	uri                         Options.URI, or ParseURI
//	database                    Options.Database, or the URI's path
//	min_size, max_size          MinIdle and MaxSize of pool.Config
//	ssl                         Options.TLS, or tls=true; certificates are verified
//	auth_source                 Options.AuthSource, or authSource
//	replica_set                 Options.ReplicaSet, or replicaSet
//	read_preference             Options.ReadPreference, or readPreference
//	conn[database]              Conn.Database, Conn.DatabaseNamed
//	db[collection]              Conn.Collection
//	pool.acquire()              Pool.Do, pool.Get or Pool.Acquire
//	check_health, get_metrics   Pool.Check; Pool.Stat and Driver.Stats
//	cleanup                     Pool.CloseExpired
//
// An unknown option is an error. An option with two different values is an error too. No option is
// dropped.
package mongopool

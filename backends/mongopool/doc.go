// Package mongopool makes pools of leases on MongoDB, over the driver go.mongodb.org/mongo-driver/v2.
//
//	p, err := mongopool.New(mongopool.Options{URI: os.Getenv("MONGODB_URI"), Database: "shop"}, pool.Config{MaxSize: 20})
//	...
//	err = p.Do(ctx, pool.Op{Name: "insert", Target: "users"}, func(ctx context.Context, c *mongopool.Conn) error {
//		_, err := c.Collection("users").InsertOne(ctx, bson.D{{Key: "name", Value: "John"}})
//		return err
//	})
//
// # One client, and a lease is the right to use it
//
// The driver discovers the servers of a deployment, watches them, and keeps sockets to each. A client for every resource would do all that as
// often: 20 of them against one server mean 40 sockets and 80 goroutines, where one client has 22 and 4. So all resources of a pool share one
// mongo.Client, and a [Conn] is the right to use it: MaxSize (100 if left 0, as a mongo.Client has) bounds how many uses there are at once,
// borrowers wait for their turn in the pool, in order of arrival, and layers see every use.
//
// The client has at most MaxSize sockets to a server. A lease that runs one command at a time finds one for it, unless the answer to an
// earlier command that was given up is still on its way (the driver waits 400 ms for it); one that runs several at once may make others
// wait in the driver. [Stats] shows such waits (SocketWait). Opening a resource opens a socket, so that Pool.Warm and MinIdle mean
// connections that are there, not the permission to make them; the driver's own minPoolSize adds at most ten in ten seconds. MaxIdleTime
// closes sockets as well as resources, within ten seconds. MaxLifetime and Discard end resources, and leave the sockets to the
// next resource. The driver gives up sockets when they fail, and moves by itself to servers that take over.
//
// The client is made for the first resource and disconnected after the last, so a closed pool leaves nothing behind, and one with a
// MinIdle of 0 and a MaxIdleTime comes to rest without a socket. When no server answers, opening says so at once, with the reason,
// instead of after the driver's 30 s. When a ping has waited for half of CheckTimeout (or for twice the time of the latest greeting or ping, if
// that is longer) and the client has had no answer meanwhile, the client is silent: the next resource that is opened gets a new client, and
// once the new client has had an answer, the other resources move to it as they come back or are checked. For the time of the move there may be
// twice as many sockets. So the pool serves again at once after a network that has swallowed everything, where the driver would go on with
// sockets that are silent for ever.
//
// The driver sends no command whose context has less time left than the quickest greeting that the client remembers. A client that was made while
// the server was slow would hold such commands back for up to ten seconds after the server has become quick again. So after a held back command the
// pool pings the server, at most once a second. If the answer comes in half of the time that the caller had, a new client takes over.
//
// A cursor belongs to the use that has opened the cursor: close the cursor, or read it to its end, before the use ends. If pool.Config.LeakAfter is
// set, the pool tells of a cursor that is left open by a [pool.EventWarning] with the borrower's stack, at most once in ten seconds, and
// [Stats] counts the cursors. Behind a load balancer (loadBalanced=true) an open cursor holds a socket of its own, so there the pool replaces the
// shared client after a use that has left a cursor open; otherwise the next borrower would wait in vain for the socket.
//
// A session is begun by [Conn.StartSession], for causally consistent reads or transactions, and ends with the lease. [Conn.WithTransaction]
// does both. They need a server that knows them: transactions a replica set or a sharded cluster.
//
// # The driver's retries
//
// They are off. By default the driver sends a command again when its reply is lost; and in a context with a deadline, which every use
// should have, it does so without limit until then: against a server that gives a find up at once (ExceededTimeLimit), 1,286 times within
// 100 ms. It knows nothing of a budget, of a breaker that has opened, or of the attempts that a layer makes around it. So one attempt of
// a layer is one command here, and to try again is for package retry, which asks [Driver.Classify] whether it may. Options.RetryReads and
// RetryWrites, or retryReads=true and retryWrites=true in the URI (as copied from Atlas), turn them on; Stats.Commands, divided by the
// pool's Acquires, then shows what they come to, and layers that observe commands see each. Two loops stay: [Conn.WithTransaction] runs
// a transaction again, and the driver resumes a change stream after a failure of its getMore, once for each.
//
// The price is paid on a replica set, where the server carries out an insert once however often the driver sends the insert: without the
// driver's retries a write whose reply is lost fails, unless its Op is Idempotent. Where such writes matter, set RetryWrites. A use that has
// only read is repeated by package retry in any case.
//
// # What errors mean
//
//	                                                                  fault    repeat
//	ErrNoDocuments, with no failure joined to it                      none     never (a miss)
//	duplicate key, bad value, unknown command, ...                    none     never
//	WriteConflict, CursorNotFound, QueryPlanKilled, StaleConfig       none     if idempotent
//	SnapshotUnavailable                                               none     always
//	an error of the borrower's own, of another service's network too  elsewhere never
//	no server, no socket, sockets given up, handshake failed          server   always
//	no server, and all that the driver knows have failed              certain  always
//	NotPrimaryOrSecondary; the codes of overload                      server   always
//	labels SystemOverloadedError and RetryableError                   server   always, after RetryAfter
//	labels NoWritesPerformed; TransientTransactionError               by code  always
//	label NetworkError: reply lost or late                            server   if idempotent
//	shutting down, a shard not reached, ExceededTimeLimit             server   if idempotent
//	AuthenticationFailed, certificate not accepted                    server   never
//	NotWritablePrimary, NotPrimaryNoSecondaryOk                       narrow   always
//	MaxTimeMSExpired, stepped down, interrupted by a change of state  narrow   if idempotent
//	written but not confirmed as asked                                narrow   if idempotent
//	Unauthorized, disk full, writes blocked, InternalError            narrow   never
//	too little time left to send it                                   caller   always
//	context cancelled; over before anything was sent; a deadline      caller   never
//	  that the borrower's function has given a command
//	client disconnected by a borrower                                 local    never
//
// Package retry repeats the server's failures and those of layers, as far as the last column allows. What is nobody's fault is not repeated: the
// last column says there what a repetition by the caller would do.
//
// Narrow is the server's fault, too, but of one kind of work: the server answers, mostly at once, and serves the rest ([pool.Class].Narrow). The
// driver tells the server how much time is left (maxTimeMS), so a server that is too slow answers MaxTimeMSExpired at the deadline. A bulk
// has the class of the gravest error in it, and is repeated only if idempotent. The pool lays an error at the caller when the caller's own
// context was over, unless the error is certain ([pool.Class].Certain): the driver lets a command wait for a server that it knows to be dead.
// Only a disconnected client makes the resource unfit, since sockets that fail are the driver's to close.
//
// The label RetryableWriteError has no row. It means that the same write may be sent again under its transaction number, by which the server
// knows what it has carried out. Only the driver can do that: with RetryWrites.
//
// In a lease without a deadline, a command that a frozen server does not answer is ended by the driver's heartbeat, which finds the server dead
// after at most the heartbeat's interval and two ConnectTimeouts (20 s by default; 18 s were measured), and cuts all sockets.
//
// # Whose error it is, and what it says of the whole use
//
// The Driver is a [pool.Witness]: it sees each command of a use. A raw error of another MongoDB client in the use is told from the use's
// own by its code, and counts as nothing. A function that has sent nothing says nothing about the server, whatever it returns.
//
// Once a use has changed something, or may have, no later error makes the whole use repeatable unless its Op is idempotent. A write that
// changed nothing does not count, nor does a write in a transaction that is not committed. In case of doubt a command counts as done: one
// without an answer; PrimarySteppedDown and its like, which can interrupt a command midway; an aggregate without results, which may have
// had an $out.
//
// All of this needs commands sent with the function's context, or with the lease's ([pool.Lease].Context). A command in another context, as
// cursor.Close(context.Background()) sends one, may be of any use. If such a command ends in the time of a use, the error of the use is judged by
// itself, and if the command has changed something, no such use is repeated unless its Op is idempotent.
//
// # What cannot be seen from outside
//
// Pools made by New and NewPool report what happens to the client's sockets and servers to the layers that observe ([EventSocketOpened] and
// its like), and each command, by name and collection, to the layers that observe commands. [Driver.Stats] counts it all.
//
// A layer that asks for the text of commands gets the document with "?" in place of each value: {"find":"people","filter":{"age":"?"}}.
// What stays are the names of fields and of the collection; of commands that carry credentials, the command's name.
//
// # For those who come from EarnORM
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
//	cleanup                     Pool.Cleanup
//
// An option that is unknown, or said twice and differently, is an error; none is dropped.
package mongopool

// Package replicaset makes a single MongoDB server look like a replica set of three members. Tests
// and demonstrations show how an application behaves when the primary steps down, dies or refuses
// commands.
//
//	set, err := replicaset.Start(os.Getenv("MONGODB_URI"), replicaset.Options{})
//	...
//	defer set.Close()
//	client, err := mongo.Connect(options.Client().ApplyURI(set.URI()))
//	...
//	set.StepDown()    // there is no primary
//	err = set.Elect() // another member is the primary
//
// The server has neither replica sets nor transactions. An example is FerretDB. Each member listens
// on a port of 127.0.0.1. A member itself handles replication (hello, read preferences, errors of a
// member that is not primary), sessions (retryable writes, cluster times) and transactions. A
// member passes all other commands on to the server, without the elements unknown to the server.
// The command configureFailPoint scripts failures of a member, as MongoDB's failCommand does. The
// members hold no elections: [Set.Elect] makes a member the primary.
//
// # Limits
//
// The members share the data of a single server. The package imitates the protocol seen by drivers,
// not a database:
//
//   - A secondary is never behind. A write is on all members at once, and is never rolled back when
//     the primary dies. Read concerns and write concerns have no effect.
//   - Members hold no elections. The only rule: a primary needs a majority of living members.
//   - A step-down does not interrupt a write in progress. A real server may interrupt the write.
//   - A transaction locks whole collections, not documents, from its first write on. Before the
//     first write, two reads in a transaction may return different data.
//   - A unique index, except the index on _id, rejects a write of a transaction only at the commit.
//     A part of the transaction may already have been executed by then.
//   - An upsert without an _id in a transaction gets another _id at the commit than in its reply.
//   - Change streams, and all other features unsupported by the server, are errors of the server.
//
// The tests of this package also run against a real replica set, except for tests that control the
// members:
//
//	MONGODB_URI='mongodb://HOST:PORT/?replicaSet=NAME' go test ./replicaset/
package replicaset

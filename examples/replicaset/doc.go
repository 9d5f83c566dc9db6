// Package replicaset makes one MongoDB server look like a replica set of three, for tests and demonstrations of what an application does when the
// primary steps down, dies or refuses.
//
//	set, err := replicaset.Start(os.Getenv("MONGODB_URI"), replicaset.Options{})
//	...
//	defer set.Close()
//	client, err := mongo.Connect(options.Client().ApplyURI(set.URI()))
//	...
//	set.StepDown()    // there is no primary
//	err = set.Elect() // another member is the primary
//
// The server is one that knows neither replica sets nor transactions, such as FerretDB. Each member listens on a port of 127.0.0.1. A member answers
// by itself what belongs to replication (hello, read preferences, errors of a member that is not primary), to sessions (retryable writes, cluster
// times) and to transactions. A member passes on everything else, without what the server does not know. The command configureFailPoint scripts
// failures of a member, as MongoDB's failCommand does. No election is held: [Set.Elect] says when there is a primary again.
//
// # What it is not
//
// The members share the data of one server. So this is a double of the protocol that drivers see, and not of a database:
//
//   - A secondary is never behind, every write is on all members at once, and none is rolled back when the primary dies. Read concerns and write
//     concerns change nothing.
//   - Members hold no elections. The only rule is that a primary needs a majority of living members.
//   - A write in progress is carried out when the primary steps down, where a real server may interrupt it.
//   - A transaction locks whole collections, not documents, from its first write on. What a transaction reads before that may have changed when the
//     transaction reads again. Unique indexes other than that of _id refuse at the commit what they have to refuse, and then a part of the
//     transaction may have been carried out. An upsert without an _id gets another _id at the commit than its reply has said.
//   - Change streams, and all else that the server behind does not know, are errors as they are there.
//
// The tests of this package run against a real replica set as well, as far as they need no power over its members:
//
//	MONGODB_URI='mongodb://HOST:PORT/?replicaSet=NAME' go test ./replicaset/
package replicaset

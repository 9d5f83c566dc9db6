package replicaset_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/earnorm/poolstack/examples/replicaset"
)

// A primary steps down, and another member is elected. The data is still there.
func Example() {
	ctx := context.Background()
	set, err := replicaset.Start(os.Getenv("MONGODB_URI"), replicaset.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer set.Close()
	client, err := mongo.Connect(options.Client().ApplyURI(set.URI()))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Disconnect(ctx)
	notes := client.Database("example_" + bson.NewObjectID().Hex()).Collection("notes")
	defer notes.Database().Drop(ctx)

	_, err = notes.InsertOne(ctx, bson.D{{Key: "text", Value: "before"}})
	fmt.Println(err)
	first := set.Primary()
	set.StepDown()
	fmt.Println(set.Primary() == "")
	fmt.Println(set.Elect(), set.Primary() != first)
	_, err = notes.InsertOne(ctx, bson.D{{Key: "text", Value: "after"}})
	fmt.Println(err)
	n, err := notes.CountDocuments(ctx, bson.D{})
	fmt.Println(n, err)
	// Output:
	// <nil>
	// true
	// <nil> true
	// <nil>
	// 2 <nil>
}

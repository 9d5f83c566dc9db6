package replicaset

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/earnorm/poolstack/backends/mongopool"
	"github.com/earnorm/poolstack/pool"
)

func insertOne(ctx context.Context, c *mongopool.Conn) error {
	_, err := c.Collection("c").InsertOne(ctx, bson.D{})
	return err
}

func findOne(ctx context.Context, c *mongopool.Conn) error {
	err := c.Collection("c").FindOne(ctx, bson.D{}).Err()
	if errors.Is(err, mongo.ErrNoDocuments) { // a real secondary may be behind
		return nil
	}
	return err
}

// Reads go to the members of the read preference, and writes always go to the primary.
func TestReadPreference(t *testing.T) {
	for preference, wants := range map[string]func(member, primary string) bool{
		"":                   func(member, primary string) bool { return member == primary },
		"primary":            func(member, primary string) bool { return member == primary },
		"primaryPreferred":   func(member, primary string) bool { return member == primary },
		"secondary":          func(member, primary string) bool { return member != primary },
		"secondaryPreferred": func(member, primary string) bool { return member != primary },
		"nearest":            func(string, string) bool { return true },
	} {
		t.Run(preference, func(t *testing.T) {
			d := deploy(t)
			set := d.hello(t)
			p, sent := d.newPool(t, mongopool.Options{ReadPreference: preference})
			for range 10 {
				must(t, p.Do(bounded(t), pool.Op{Name: "insert"}, insertOne))
				must(t, p.Do(bounded(t), pool.Op{Name: "find"}, findOne))
			}
			writes, reads := sent.of("insert"), sent.of("find")
			if len(writes) != 10 || len(reads) != 10 {
				t.Errorf("%d writes and %d reads were sent, want 10 each", len(writes), len(reads))
			}
			for _, w := range writes {
				if w.member != set.Primary {
					t.Errorf("a write went to %s, where %s is the primary", w.member, set.Primary)
				}
			}
			for _, r := range reads {
				if !wants(r.member, set.Primary) || !slices.Contains(set.Hosts, r.member) {
					t.Errorf("a read went to %s of %v, where %s is the primary", r.member, set.Hosts, set.Primary)
				}
			}
		})
	}
}

// The set's name and the address of any member suffice to find the primary. A set with another name
// is not used.
func TestReplicaSetName(t *testing.T) {
	d := deploy(t)
	set := d.hello(t)
	secondary := slices.IndexFunc(set.Hosts, func(host string) bool { return host != set.Primary })
	seed := mongopool.Options{Hosts: []string{set.Hosts[secondary]}, ReplicaSet: set.SetName}
	if d.set == nil { // a real set may need credentials and TLS
		seed = mongopool.Options{}
	}
	p, sent := d.newPool(t, seed)
	must(t, p.Do(bounded(t), pool.Op{Name: "insert"}, insertOne))
	if writes := sent.of("insert"); len(writes) != 1 || writes[0].member != set.Primary {
		t.Errorf("the write went to %v, where %s is the primary", writes, set.Primary)
	}
	other, err := mongopool.New(mongopool.Options{
		Hosts: set.Hosts, Database: d.database, ReplicaSet: "another_" + set.SetName, ServerSelectionTimeout: 200 * time.Millisecond,
	}, pool.Config{MaxSize: 1})
	must(t, err)
	defer func() { must(t, other.Close(bounded(t))) }()
	if err := other.Do(bounded(t), pool.Op{Name: "insert"}, insertOne); err == nil {
		t.Error("a write reached a set of another name")
	}
	if len(sent.of("insert")) != 1 {
		t.Error("the write was sent again")
	}
}

// The health of a pool shows the set, and a missing primary.
func TestHealthOfASet(t *testing.T) {
	d := deploy(t)
	set := d.hello(t)
	p, _ := d.newPool(t, mongopool.Options{})
	h := p.Check(bounded(t))
	if h.Status != pool.StatusOK || h.Details["role"] != "primary" || h.Details["set"] != set.SetName {
		t.Errorf("health %v %v, %v", h.Status, h.Reasons, h.Details)
	}
	if d.set == nil { // the primary of a real set stays
		return
	}
	if h.Details["members"] != "3" || h.Details["lag"] != "0s" {
		t.Errorf("three members without lag are %v", h.Details)
	}
	d.set.StepDown()
	defer func() { must(t, d.set.Elect()) }()
	if h := p.Check(bounded(t)); h.Status == pool.StatusOK {
		t.Errorf("without a primary: health %v, %v", h.Status, h.Details)
	}
}

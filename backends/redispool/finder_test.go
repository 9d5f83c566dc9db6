package redispool

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
)

func TestChoose(t *testing.T) {
	at := func(primary string, epoch uint64) answer { return answer{primary: primary, epoch: epoch} }
	for name, tc := range map[string]struct {
		answers []answer
		present answer
		known   int
		want    answer
	}{
		"the only one":                        {[]answer{at("a", 1)}, answer{}, 3, at("a", 1)},
		"the latest epoch":                    {[]answer{at("a", 1), at("b", 2), at("a", 1)}, at("a", 1), 3, at("b", 2)},
		"most of the same epoch":              {[]answer{at("a", 0), at("b", 0), at("b", 0)}, answer{}, 3, at("b", 0)},
		"an earlier epoch of one":             {[]answer{at("a", 1)}, at("b", 2), 3, at("b", 2)},
		"an earlier epoch of half":            {[]answer{at("a", 1), at("a", 1)}, at("b", 2), 4, at("b", 2)},
		"an earlier epoch of most":            {[]answer{at("a", 1), at("a", 1)}, at("b", 2), 3, at("a", 1)},
		"an earlier epoch of the only one":    {[]answer{at("a", 1)}, at("b", 2), 1, at("a", 1)},
		"an earlier epoch, the same primary":  {[]answer{at("b", 1)}, at("b", 2), 3, at("b", 2)},
		"epochs that the user may not ask of": {[]answer{at("b", 0), at("b", 0)}, at("a", 0), 3, at("b", 0)},
	} {
		if got := choose(tc.answers, tc.present, tc.known); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}

// Sentinels learn of a failover one after another, or not while they are cut off. find may query
// any of them. The choice never goes back to the primary of an earlier epoch.
func TestChooseNeverGoesBack(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		views := make([]answer, 3+2*r.IntN(2))
		at := func(epoch uint64) answer { return answer{primary: fmt.Sprint("p", epoch%3), epoch: epoch} }
		for i := range views {
			views[i] = at(0)
		}
		latest := uint64(0)
		var present answer
		for range 40 {
			switch r.IntN(3) {
			case 0: // a failover, which most of the Sentinels agree to at once
				latest++
				for _, i := range r.Perm(len(views))[:len(views)/2+1] {
					views[i] = at(latest)
				}
			case 1: // one Sentinel hears of it
				views[r.IntN(len(views))] = at(latest)
			default:
				var answers []answer
				for _, i := range r.Perm(len(views))[:1+r.IntN(len(views))] {
					answers = append(answers, views[i])
				}
				got := choose(answers, present, len(views))
				if got.epoch < present.epoch {
					t.Fatalf("seed %d: from %+v to %+v by %+v", seed, present, got, answers)
				}
				present = got
			}
		}
	}
}

func TestReplicasUp(t *testing.T) {
	replica := func(port, flags, link string) map[string]string {
		return map[string]string{"ip": "h", "port": port, "flags": flags, "master-link-status": link}
	}
	for name, tc := range map[string]struct {
		states []map[string]string
		want   []string
	}{
		"none":               {nil, nil},
		"all":                {[]map[string]string{replica("2", "slave", "ok"), replica("1", "slave", "ok")}, []string{"h:1", "h:2"}},
		"down":               {[]map[string]string{replica("1", "slave,s_down", "ok"), replica("2", "o_down,slave", "ok")}, nil},
		"disconnected":       {[]map[string]string{replica("1", "slave,disconnected", "ok"), replica("2", "slave", "ok")}, []string{"h:2"}},
		"one without a link": {[]map[string]string{replica("1", "slave", "err"), replica("2", "slave", "ok")}, []string{"h:2"}},
		"all without a link": {[]map[string]string{replica("1", "slave", "err"), replica("2", "slave", "err")}, []string{"h:1", "h:2"}},
	} {
		if got := replicasUp(tc.states); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

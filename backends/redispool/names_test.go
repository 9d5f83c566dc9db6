package redispool_test

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/earnorm/poolstack/backends/redispool"
)

// general are the methods of go-redis that send any command.
var general = []string{"BatchProcess", "Do", "DoRaw", "DoRawWriteTo", "Exec", "Pipelined", "Process", "TxPipelined"}

// sentBy returns the names of the commands sent by the methods of go-redis, called with zero
// arguments. The methods that refuse zero arguments, or send nothing, are left out.
func sentBy(t *testing.T) (names map[string]string) {
	t.Helper()
	client := redis.NewClient(&redis.Options{MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
	defer func() { _ = client.Close() }()
	p := client.Pipeline()
	methods := reflect.ValueOf(p)
	call := func(method reflect.Value) {
		defer func() { _ = recover() }()
		args := []reflect.Value{reflect.ValueOf(t.Context())}
		kinds := method.Type()
		for i := 1; i < kinds.NumIn() && (!kinds.IsVariadic() || i < kinds.NumIn()-1); i++ {
			switch in := kinds.In(i); {
			case in.Kind() == reflect.Pointer:
				args = append(args, reflect.New(in.Elem()))
			case in == reflect.TypeFor[redis.Vector]():
				args = append(args, reflect.ValueOf(&redis.VectorRef{Name: "v"}))
			default:
				args = append(args, reflect.Zero(in))
			}
		}
		method.Call(args)
	}
	names = map[string]string{}
	for i := range methods.NumMethod() {
		method := methods.Method(i)
		name := methods.Type().Method(i).Name
		if kinds := method.Type(); kinds.NumIn() == 0 || kinds.In(0) != reflect.TypeFor[context.Context]() || slices.Contains(general, name) {
			continue
		}
		before := p.Len()
		call(method)
		for _, cmd := range p.Cmds()[before:] {
			names[cmd.Name()] = name
		}
	}
	return names
}

// Layers see the names of all commands that go-redis has methods for.
func TestNamesOfGoRedis(t *testing.T) {
	sent := sentBy(t)
	if n := len(sent); n < 370 {
		t.Errorf("the methods of go-redis send only %d commands", n)
	}
	for name, method := range sent {
		if got := redispool.DisplayName(name); got != strings.ToUpper(name) {
			t.Errorf("the method %s sends %s, shown as %s", method, name, got)
		}
	}
}

// Layers see the names of all commands of a server.
func TestNamesOfAServer(t *testing.T) {
	all, err := need(t).redis(t).Command(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	for name := range all {
		if got := redispool.DisplayName(name); got != strings.ToUpper(name) {
			t.Errorf("%s is shown as %s", name, got)
		}
	}
}

package redispool

import (
	"context"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A command that is meant to block tells the server how long to wait at most. The client waits 10 s
// longer for the reply. go-redis does the same for its own methods, but not in pipelines and not
// for Do. This package does it for every command.

const blockMargin = 10 * time.Second

// forever is the block time of a command without a limit.
const forever time.Duration = math.MaxInt64

// replyDeadline returns the deadline for the replies to commands that block one after another. The
// zero Time means no deadline. ok is false if no command has a block time. The deadline of ctx also
// bounds the wait.
func replyDeadline(ctx context.Context, cmds []redis.Cmder) (deadline time.Time, ok bool) {
	total := time.Duration(0)
	for _, cmd := range cmds {
		d, said := blockTime(cmd.Args())
		ok = ok || said
		if total += d; d == forever || total < 0 || total > forever-blockMargin {
			total = forever - blockMargin
		}
	}
	if !ok {
		return deadline, false
	}
	own, limited := ctx.Deadline()
	if total < forever-blockMargin {
		deadline = time.Now().Add(total + blockMargin)
	}
	if limited && (deadline.IsZero() || own.Before(deadline)) {
		deadline = own
	}
	return deadline, true
}

// blockTime returns the longest time for which a command may block, or forever if the command gives
// 0. ok is false if the command does not block or gives no time.
func blockTime(args []any) (d time.Duration, ok bool) {
	if len(args) < 2 {
		return 0, false
	}
	name, _ := word(args[0])
	var at int
	unit := time.Second
	switch strings.ToLower(name) {
	case "blpop", "brpop", "brpoplpush", "blmove", "bzpopmin", "bzpopmax":
		at = len(args) - 1
	case "blmpop", "bzmpop":
		at = 1
	case "wait", "waitaof":
		at, unit = len(args)-1, time.Millisecond
	default: // XREAD, XREADGROUP
		at, _ = streamWords(args)
		unit = time.Millisecond
	}
	if at <= 0 || at >= len(args) {
		return 0, false
	}
	n, ok := number(args[at])
	switch {
	case !ok || !(n >= 0): // also rejects NaN
		return 0, false
	case n == 0 || n*float64(unit) >= float64(forever):
		return forever, true
	}
	return time.Duration(n * float64(unit)), true
}

// streamWords returns two indexes into the words of an XREAD or XREADGROUP: the time of BLOCK and
// the first key. An index is 0 if there is no such word. The two words after GROUP are names.
func streamWords(args []any) (block, key int) {
	for i := 1; i < len(args)-1; i++ {
		text, _ := word(args[i])
		switch {
		case strings.EqualFold(text, "block"):
			block = i + 1
			i++
		case strings.EqualFold(text, "streams"):
			return block, i + 1
		case strings.EqualFold(text, "group"):
			i += 2
		}
	}
	return block, 0
}

// number returns arg as a number. arg may be a number, a bool or the text of a number.
func number(arg any) (n float64, ok bool) {
	if text, ok := word(arg); ok {
		n, err := strconv.ParseFloat(text, 64)
		return n, err == nil
	}
	switch v := reflect.Indirect(reflect.ValueOf(arg)); {
	case v.CanInt():
		return float64(v.Int()), true
	case v.CanUint():
		return float64(v.Uint()), true
	case v.CanFloat():
		return v.Float(), true
	case v.Kind() == reflect.Bool && v.Bool():
		return 1, true
	case v.Kind() == reflect.Bool:
		return 0, true
	}
	return 0, false
}

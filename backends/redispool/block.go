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

// A command that is meant to block says how long the server may keep it waiting. Its reply is waited for ten seconds longer than that,
// however the command was made: go-redis does so for its own methods, outside of pipelines.

const blockMargin = 10 * time.Second

// forever is the block time of a command that sets no limit to it.
const forever time.Duration = math.MaxInt64

// replyDeadline returns until when to wait for the replies of commands that block, one after another. The zero Time means for ever. ok is false
// if no command says how long it blocks.
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

// blockTime returns how long a command may block: forever if it says 0. ok is false for a command that does not block, or does not say.
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
	case !ok || !(n >= 0): // nor NaN
		return 0, false
	case n == 0 || n*float64(unit) >= float64(forever):
		return forever, true
	}
	return time.Duration(n * float64(unit)), true
}

// streamWords returns where XREAD and XREADGROUP have the time of BLOCK and the first key, each 0 if there is none. What follows GROUP are names.
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

// number returns the number that arg is, or is the text of.
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

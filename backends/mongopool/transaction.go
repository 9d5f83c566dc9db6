package mongopool

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// The driver's own WithTransaction sends commits and aborts without the caller's deadline, and goes on for two minutes. Here both are within the
// deadline. An abort that is not answered by then is the pool's affair: Reset waits for it before anybody gets the resource.

const (
	// transactionTime bounds the tries of a transaction, and its commit, for a caller without a deadline. As in the driver; its source is "Convenient
	// API for Transactions" of MongoDB's driver specifications, like the pauses between the tries.
	transactionTime = 2 * time.Minute
	firstPause      = 5 * time.Millisecond
	longestPause    = 500 * time.Millisecond
	// abortTime bounds an abort. A transaction whose abort is lost is aborted by the server (transactionLifetimeLimitSeconds, a minute).
	abortTime = time.Second
)

// WithTransaction runs fn in a transaction, in a session of its own that has ended when it returns. Commands that are to be part of the
// transaction must be sent with fn's context. It needs a replica set or a sharded cluster.
//
// fn is run again, whatever RetryReads and RetryWrites say, when the transaction was aborted by a conflict or a change of primary: until ctx is
// over, and for two minutes at most (in the standard stack, for ten seconds if the caller has no deadline). That is harmless if fn has no
// effects besides. The commit is sent again too, which is harmless in any case. If ctx ends during the commit, nobody knows whether the
// transaction was carried out.
func (c *Conn) WithTransaction(
	ctx context.Context, fn func(ctx context.Context) error, opts ...options.Lister[options.TransactionOptions],
) error {
	s, err := c.StartSession()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, transactionTime)
	defer cancel()
	aborting := false
	defer func() {
		if !aborting { // else Reset does it
			c.endSession(ctx, s)
		}
	}()
	for pause := firstPause; ; pause = min(pause*3/2, longestPause) {
		if err := s.StartTransaction(opts...); err != nil {
			return err
		}
		if err = fn(mongo.NewSessionContext(ctx, s)); err == nil {
			err = conclude(ctx, s)
		}
		if err == nil {
			return nil
		}
		if s.TransactionRunning() {
			if aborting = !c.abort(ctx, s); aborting {
				return err
			}
		}
		if !hasLabel(err, labelTransient) || !rest(ctx, pause) {
			return err
		}
	}
}

// rest waits for a part of the pause, by chance. It returns false if ctx is over.
func rest(ctx context.Context, pause time.Duration) bool {
	select {
	case <-time.After(rand.N(pause)):
		return true
	case <-ctx.Done():
		return false
	}
}

// conclude commits the transaction, unless fn has ended it or ctx is over. A commit that is not answered ends the session.
func conclude(ctx context.Context, s *mongo.Session) error {
	if !s.TransactionRunning() {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	err := commit(ctx, s)
	if s.TransactionRunning() {
		abandon(ctx, s)
	}
	return err
}

// commit commits the transaction, and asks again as long as nobody knows whether it was.
func commit(ctx context.Context, s *mongo.Session) error {
	for pause := firstPause; ; pause = min(pause*3/2, longestPause) {
		err := s.CommitTransaction(ctx)
		if err == nil || ctx.Err() != nil || !commitsAgain(err) {
			return err
		}
		if failure, ok := errors.AsType[mongo.CommandError](err); ok && failure.IsMaxTimeMSExpiredError() || !rest(ctx, pause) {
			return err
		}
	}
}

// commitsAgain says whether a commit that failed may be sent again. The driver labels no commit for which it has found no server, neither at the
// first try nor when it has tried again by itself.
func commitsAgain(err error) bool {
	return hasLabel(err, labelUnknownCommit) || hasLabel(err, labelRetryableWrite) || unsent(err) != ""
}

// abandon ends a session whose commit was not answered, without an abort: the abort could meet the commit on its way through a mongos. The context
// of the abort that the driver would send is over.
func abandon(ctx context.Context, s *mongo.Session) {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	s.EndSession(ctx)
}

// abort has the transaction aborted, and returns true when that is done, or has failed. It returns false if ctx is over before; the abort goes on
// then.
func (c *Conn) abort(ctx context.Context, s *mongo.Session) bool {
	done := make(chan struct{})
	c.aborts.Go(func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
		defer cancel()
		_ = s.AbortTransaction(ctx) // the server aborts it by itself, later
	})
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// endSession ends a session of the borrower's that has no transaction.
func (c *Conn) endSession(ctx context.Context, s *mongo.Session) {
	if s.TransactionRunning() { // a panic: Reset aborts it
		return
	}
	s.EndSession(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions = slices.DeleteFunc(c.sessions, func(other *mongo.Session) bool { return other == s })
}

// hasLabel says whether the server has labelled the error.
func hasLabel(err error, label string) bool {
	labelled, ok := errors.AsType[mongo.LabeledError](err)
	return ok && labelled.HasErrorLabel(label)
}

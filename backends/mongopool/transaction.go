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

// The driver's own WithTransaction sends commits and aborts without the caller's deadline, and
// repeats for two minutes. Here commits and aborts end with the deadline. If an abort has no answer
// by then, the abort goes on in the background. Reset waits for the abort before the next lease.

const (
	// transactionTime bounds all attempts of a transaction together, and its commit. The caller's
	// deadline may be shorter. The driver has the same bound. Source of the bound and of the pauses
	// between attempts: "Convenient API for Transactions" of MongoDB's driver specifications.
	transactionTime = 2 * time.Minute
	firstPause      = 5 * time.Millisecond
	longestPause    = 500 * time.Millisecond
	// abortTime bounds an abort. If the abort is lost, the server aborts the transaction
	// (transactionLifetimeLimitSeconds, a minute).
	abortTime = time.Second
)

// WithTransaction runs fn in a transaction. The transaction has its own session. The session ends
// before WithTransaction returns, or with the lease if an abort has no answer by then. Send the
// commands of the transaction with fn's context. A transaction needs a replica set or a sharded
// cluster.
//
// WithTransaction runs fn again if a conflict or a change of primary has aborted the transaction,
// even without RetryReads and RetryWrites. This is harmless if fn has no other effects. The
// attempts end with ctx, and after two minutes at most. In the standard stack the attempts end
// after ten seconds if the caller has no deadline. WithTransaction also sends the commit again,
// which is always harmless. If ctx ends during the commit, nobody knows whether the transaction was
// carried out.
//
// WithTransaction returns the last error of the session, of fn or of the commit.
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
		if !aborting { // else Reset ends the session
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

// rest waits for a random part of the pause. It returns false if ctx is over.
func rest(ctx context.Context, pause time.Duration) bool {
	select {
	case <-time.After(rand.N(pause)):
		return true
	case <-ctx.Done():
		return false
	}
}

// conclude commits the transaction, unless fn has ended the transaction or ctx is over. If the
// commit gets no answer, conclude ends the session.
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

// commit commits the transaction. It sends the commit again while the result is unknown.
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

// commitsAgain reports whether a failed commit may be sent again. The driver sets no label if no
// server was found for the commit, in the first attempt or in the driver's own second attempt.
func commitsAgain(err error) bool {
	return hasLabel(err, labelUnknownCommit) || hasLabel(err, labelRetryableWrite) || unsent(err) != ""
}

// abandon ends a session whose commit got no answer, without an abort. The abort could meet the
// commit on its way through a mongos. abandon ends the context first, so the driver sends no abort.
func abandon(ctx context.Context, s *mongo.Session) {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	s.EndSession(ctx)
}

// abort aborts the transaction. It returns true when the abort has succeeded or failed. It returns
// false if ctx is over before; the abort then goes on in the background.
func (c *Conn) abort(ctx context.Context, s *mongo.Session) bool {
	done := make(chan struct{})
	c.aborts.Go(func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
		defer cancel()
		_ = s.AbortTransaction(ctx) // after a failure the server aborts the transaction later
	})
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// endSession ends a session of the borrower that has no open transaction.
func (c *Conn) endSession(ctx context.Context, s *mongo.Session) {
	if s.TransactionRunning() { // after a panic: Reset aborts the transaction
		return
	}
	s.EndSession(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions = slices.DeleteFunc(c.sessions, func(other *mongo.Session) bool { return other == s })
}

// hasLabel reports whether the error has the label.
func hasLabel(err error, label string) bool {
	labelled, ok := errors.AsType[mongo.LabeledError](err)
	return ok && labelled.HasErrorLabel(label)
}

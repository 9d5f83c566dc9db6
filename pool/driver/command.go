package driver

import "context"

// Command describes a command sent by the client of a backend within a use. A Command contains no
// value, no key and no secret.
type Command struct {
	// Name is the name of the command, such as "GET" or "find". For several commands in one request,
	// Name is a name for the whole: "PIPELINE", "MULTI GET", "BATCH update". For a command unknown to
	// the driver Name is "_OTHER".
	Name      string
	Target    string // the name of a collection; "" for Redis
	Namespace string // the database, if different from the pool's Namespace
	// OnDatabase: the command is about the whole database, as dbStats is. Then Target is "", and a
	// span is named after the database.
	OnDatabase bool
	// Server is the server to which the command was sent: host:port, or the path of a socket. Server
	// is "" if the driver does not know the server.
	Server string
	// Batch is the number of commands in a pipeline: 0 for a single command, EmptyBatch for a pipeline
	// without commands.
	Batch int
	// Text is the command without its values. Text is "" if no layer asked for the text
	// (ObservingText), or if the backend has no text.
	Text string
}

// EmptyBatch is the Batch of a pipeline without commands, see [Command].
const EmptyBatch = -1

// Commands receives the commands sent within a use. Package pool puts a Commands into the context
// of a use under [CommandsKey], if some layer observes commands. The methods are called
// concurrently.
type Commands interface {
	// WantsCommandText reports whether some layer wants [Command].Text.
	WantsCommandText() bool
	// BeginCommand is called before the command is sent. The returned context is passed to EndCommand.
	BeginCommand(ctx context.Context, cmd Command) context.Context
	// EndCommand is called after the command has been answered or has failed.
	EndCommand(ctx context.Context, cmd Command, err error)
}

// CommandsKey is the key of a [Commands] in a context. A test of a driver's hooks may put its own
// Commands into a context.
type CommandsKey struct{}

// commandsIn returns the Commands in ctx, or nil.
func commandsIn(ctx context.Context) Commands {
	c, _ := ctx.Value(CommandsKey{}).(Commands)
	return c
}

// Observing reports whether some layer observes the commands sent in ctx. A driver calls Observing
// before the driver builds a [Command].
func Observing(ctx context.Context) bool { return commandsIn(ctx) != nil }

// ObservingText reports whether some layer wants the Text of the commands sent in ctx. A driver
// calls ObservingText before the driver builds the text.
func ObservingText(ctx context.Context) bool {
	c := commandsIn(ctx)
	return c != nil && c.WantsCommandText()
}

// BeginCommand reports to the observers of the pool that a command is about to be sent in ctx. ctx
// descends from the context of a use. A driver calls BeginCommand from the hooks of its client, and
// passes the returned context to EndCommand. Without an observer BeginCommand returns ctx.
func BeginCommand(ctx context.Context, cmd Command) context.Context {
	if c := commandsIn(ctx); c != nil {
		return c.BeginCommand(ctx, cmd)
	}
	return ctx
}

// EndCommand reports the end of the command to the same observers. A driver must call EndCommand
// once for each BeginCommand, before the borrower's function returns or the lease is released.
func EndCommand(ctx context.Context, cmd Command, err error) {
	if c := commandsIn(ctx); c != nil {
		c.EndCommand(ctx, cmd, err)
	}
}

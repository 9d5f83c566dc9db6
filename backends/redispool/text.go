package redispool

import (
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// maxText bounds the text of a command or of a pipeline, in bytes.
const maxText = 1024

// subcommands has the words after a command's name that are not arguments. The list is fixed, so a
// value given in the wrong place is not shown as a subcommand.
var subcommands = map[string]string{
	"ACL":      "CAT DELUSER DRYRUN GENPASS GETUSER LIST LOAD LOG SAVE SETUSER USERS WHOAMI",
	"CLIENT":   "CACHING GETNAME GETREDIR ID INFO KILL LIST NO-EVICT NO-TOUCH PAUSE REPLY SETINFO SETNAME TRACKING TRACKINGINFO UNBLOCK UNPAUSE",
	"CLUSTER":  "COUNTKEYSINSLOT FAILOVER GETKEYSINSLOT INFO KEYSLOT LINKS MYID NODES REPLICAS SHARDS SLOTS",
	"COMMAND":  "COUNT DOCS GETKEYS GETKEYSANDFLAGS INFO LIST",
	"CONFIG":   "GET RESETSTAT REWRITE SET",
	"FUNCTION": "DELETE DUMP FLUSH KILL LIST LOAD RESTORE STATS",
	"LATENCY":  "DOCTOR GRAPH HISTOGRAM HISTORY LATEST RESET",
	"MEMORY":   "DOCTOR MALLOC-STATS PURGE STATS USAGE",
	"MODULE":   "LIST LOAD LOADEX UNLOAD",
	"OBJECT":   "ENCODING FREQ IDLETIME REFCOUNT",
	"PUBSUB":   "CHANNELS NUMPAT NUMSUB SHARDCHANNELS SHARDNUMSUB",
	"SCRIPT":   "DEBUG EXISTS FLUSH KILL LOAD",
	"SLOWLOG":  "GET LEN RESET",
	"XGROUP":   "CREATE CREATECONSUMER DELCONSUMER DESTROY SETID",
	"XINFO":    "CONSUMERS GROUPS STREAM",
}

// text returns a command with a ? for each argument, such as a key, a value or a password:
// "SET ? ?", "CONFIG SET ? ?".
func text(cmd redis.Cmder) string {
	name, args := displayName(cmd.Name()), cmd.Args()
	var b strings.Builder
	b.WriteString(name)
	for i, arg := range args[min(1, len(args)):] {
		if b.Len() > maxText {
			b.WriteString(" ...")
			break
		}
		if word, ok := arg.(string); ok && i == 0 {
			if word = strings.ToUpper(word); slices.Contains(strings.Fields(subcommands[name]), word) {
				b.WriteString(" " + word)
				continue
			}
		}
		b.WriteString(" ?")
	}
	return b.String()
}

// batchText returns the texts of the commands of a pipeline or a transaction. It leaves out a text
// equal to the text before.
func batchText(cmds []redis.Cmder) string {
	_, cmds = unwrapped(cmds)
	var b strings.Builder
	last := ""
	for _, cmd := range cmds {
		t := text(cmd)
		if t == last {
			continue
		}
		if last != "" {
			b.WriteString("; ")
		}
		if b.Len() > maxText {
			b.WriteString("...")
			break
		}
		b.WriteString(t)
		last = t
	}
	return b.String()
}

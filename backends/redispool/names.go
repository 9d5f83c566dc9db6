package redispool

import "strings"

// The names of commands that layers see. Another word in the place of a name may be a key, a value
// or a password, so layers see _OTHER. A server's reply to COMMAND does not add to the names: the
// server may have given a command a secret name (rename-command). A test compares the names with
// the methods of go-redis and with a server's reply to COMMAND.

// coreNames are the commands of Redis and Valkey, also of newer and of older servers.
const coreNames = `acl append arcount ardel ardelrange arget argetrange argrep arinfo arinsert arlastitems arlen armget armset arnext
	arop arring arscan arseek arset asking auth bgrewriteaof bgsave bitcount bitfield bitfield_ro bitop bitpos blmove
	blmovem blmpop blpop brpop brpoplpush bzmpop bzpopmax bzpopmin client cluster clusterscan command commandlog config
	copy dbsize debug decr decrby del delex delifeq digest discard dump echo eval eval_ro evalsha evalsha_ro exec exists
	expire expireat expiretime failover fcall fcall_ro flushall flushdb function geoadd geodist geohash geopos georadius
	georadius_ro georadiusbymember georadiusbymember_ro geosearch geosearchstore get getbit getdel getex getrange getset
	hdel hello hexists hexpire hexpireat hexpiretime hget hgetall hgetdel hgetex himport hincrby hincrbyfloat hkeys hlen
	hmget hmset hotkeys hpersist hpexpire hpexpireat hpexpiretime hpttl hrandfield hscan hset hsetex hsetnx hstrlen httl
	hvals incr incrby incrbyfloat increx info keys lastsave latency lcs lindex linsert llen lmove lmovem lmpop lolwut lpop
	lpos lpush lpushx lrange lrem lset ltrim memory mget migrate module monitor move mset msetex msetnx multi object
	persist pexpire pexpireat pexpiretime pfadd pfcount pfdebug pfmerge pfselftest ping psetex psubscribe psync pttl
	publish pubsub punsubscribe quit randomkey readonly readwrite rename renamenx replconf replicaof reset restore
	restore-asking role rpop rpoplpush rpush rpushx sadd save scan scard script sdiff sdiffcard sdiffstore select sentinel
	set setbit setex setnx setrange shutdown sinter sintercard sinterstore sismember slaveof slowlog smembers smismember
	smove sort sort_ro spop spublish srandmember srem sscan ssubscribe strlen subscribe substr sunion sunioncard
	sunionstore sunsubscribe swapdb sync time touch ttl type unlink unsubscribe unwatch vadd vcard vdim vemb vgetattr
	vinfo vismember vlinks vrandmember vrange vrem vsetattr vsim wait waitaof watch xack xackdel xadd xautoclaim xcfgset
	xclaim xdel xdelex xgroup xinfo xlen xnack xpending xrange xread xreadgroup xrevrange xsetid xtrim zadd zcard zcount
	zdiff zdiffstore zincrby zinter zintercard zinterstore zlexcount zmpop zmscore zpopmax zpopmin zrandmember zrange
	zrangebylex zrangebyscore zrangestore zrank zrem zremrangebylex zremrangebyrank zremrangebyscore zrevrange
	zrevrangebylex zrevrangebyscore zrevrank zscan zscore zunion zunionstore`

// moduleNames are the commands of modules: search, JSON, probabilistic types, time series, graph,
// and throttling.
const moduleNames = `bf.add bf.card bf.debug bf.exists bf.info bf.insert bf.loadchunk bf.madd bf.mexists bf.reserve bf.scandump cf.add
	cf.addnx cf.compact cf.count cf.debug cf.del cf.exists cf.info cf.insert cf.insertnx cf.loadchunk cf.mexists
	cf.reserve cf.scandump cl.throttle cms.incrby cms.info cms.initbydim cms.initbyprob cms.merge cms.query
	ft._aliasaddifnx ft._aliasdelifx ft._alterifnx ft._createifnx ft._dropifx ft._dropindexifx ft._list ft.add
	ft.aggregate ft.aliasadd ft.aliasdel ft.aliaslist ft.aliasupdate ft.alter ft.config ft.create ft.cursor ft.debug
	ft.del ft.dictadd ft.dictdel ft.dictdump ft.drop ft.dropindex ft.explain ft.explaincli ft.get ft.hybrid ft.info
	ft.mget ft.profile ft.safeadd ft.search ft.spellcheck ft.sugadd ft.sugdel ft.sugget ft.suglen ft.synadd ft.syndump
	ft.synupdate ft.tagvals graph.bulk graph.config graph.constraint graph.copy graph.delete graph.explain graph.list
	graph.profile graph.query graph.ro_query graph.slowlog json.arrappend json.arrindex json.arrinsert json.arrlen
	json.arrpop json.arrtrim json.clear json.debug json.del json.forget json.get json.merge json.mget json.mset
	json.numincrby json.nummultby json.numpowby json.objkeys json.objlen json.resp json.set json.strappend json.strlen
	json.toggle json.type tdigest.add tdigest.byrank tdigest.byrevrank tdigest.cdf tdigest.create tdigest.info tdigest.max
	tdigest.merge tdigest.min tdigest.quantile tdigest.rank tdigest.reset tdigest.revrank tdigest.trimmed_mean topk.add
	topk.count topk.incrby topk.info topk.list topk.query topk.reserve ts.add ts.alter ts.create ts.createrule ts.decrby
	ts.del ts.deleterule ts.get ts.incrby ts.info ts.madd ts.mget ts.mrange ts.mrevrange ts.nrange ts.nrevrange
	ts.queryindex ts.querylabels ts.range ts.read ts.revrange`

// otherName stands for every other command. The conventions of OpenTelemetry have this value for
// everything without a name.
const otherName = "_OTHER"

// displayNames maps the name of a command in lower case to the same name in upper case.
var displayNames = func() map[string]string {
	m := map[string]string{}
	for name := range strings.FieldsSeq(coreNames + " " + moduleNames) {
		m[name] = strings.ToUpper(name)
	}
	return m
}()

// displayName returns the name of a command in upper case, or _OTHER for an unknown word. name is
// in lower case, as given by go-redis.
func displayName(name string) string {
	if known, ok := displayNames[name]; ok {
		return known
	}
	return otherName
}

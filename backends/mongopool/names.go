package mongopool

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/earnorm/poolstack/pool/driver"
)

// What layers see of a command: its name, and what the command is about. RunCommand sends any word
// as the name of a command, also a value by mistake. So layers see the names of known commands
// only. Source: "Database Commands" in MongoDB's manual, with the second names of old commands.

// scope is what a command is about.
type scope uint8

const (
	ofDeployment scope = iota // a server or the deployment, or several databases or collections
	ofDatabase                // the database to which the command is sent
	ofCollection              // a collection, or the database if the command names no collection
)

// commandScopes has all known commands. The first value of a command ofCollection is the name of
// the collection. Other commands have user names and similar values there.
var commandScopes = func() map[string]scope {
	m := map[string]scope{}
	add := func(s scope, names string) {
		for name := range strings.FieldsSeq(names) {
			m[name] = s
		}
	}
	add(ofCollection, `aggregate analyze cleanupStructuredEncryptionData cloneCollectionAsCapped collMod collStats collstats compact
		compactStructuredEncryptionData convertToCapped count create createIndexes createSearchIndexes delete deleteIndexes distinct drop
		dropIndexes dropSearchIndex find findAndModify findandmodify geoNear geoSearch getMore insert killCursors listIndexes mapReduce
		mapreduce parallelCollectionScan planCacheClear planCacheClearFilters planCacheListFilters planCacheSetFilter reIndex
		setIndexCommitQuorum update updateSearchIndex validate`)
	add(ofDatabase, `clone copydb createRole createUser dbHash dbStats dbhash dbstats dropAllRolesFromDatabase dropAllUsersFromDatabase
		dropDatabase dropRole dropUser eval grantPrivilegesToRole grantRolesToRole grantRolesToUser listCollections profile repairDatabase
		revokePrivilegesFromRole revokeRolesFromRole revokeRolesFromUser rolesInfo updateRole updateUser usersInfo`)
	add(ofDeployment, `abortMoveCollection abortReshardCollection abortTransaction abortUnshardCollection addShard addShardToZone
		analyzeShardKey appendOplogNote applyOps authSchemaUpgrade authenticate autoCompact availableQueryOptions balancerCollectionStatus
		balancerStart balancerStatus balancerStop buildInfo buildinfo bulkWrite checkMetadataConsistency checkShardingIndex cleanupOrphaned
		cleanupReshardCollection clearJumboFlag cloneCollection commitReshardCollection commitTransaction compactOplog configureFailPoint
		configureQueryAnalyzer connPoolStats connPoolSync connectionStatus copydbgetnonce copydbsaslstart currentOp cursorInfo dataSize
		datasize diagLogging driverOIDTest enableSharding endSessions explain features filemd5 flushRouterConfig fsync fsyncUnlock
		getAuditConfig getChangeStreamState getClusterParameter getCmdLineOpts getDefaultRWConcern getDiagnosticData
		getFreeMonitoringStatus getLastError getLog getParameter getPrevError getQueryableEncryptionCountInfo getShardMap getShardVersion
		getlasterror getnonce group handshake hello hostInfo invalidateUserCache isMaster isSelf isdbgrid ismaster killAllSessions
		killAllSessionsByPattern killOp killSessions listCommands listDatabases listShards lockInfo logApplicationMessage logRotate logout
		medianKey mergeAllChunksOnShard mergeChunks moveChunk moveCollection movePrimary moveRange netstat oidcListKeys oidcRefreshKeys
		ping reapLogicalSessionCacheNow refineCollectionShardKey refreshLogicalSessionCacheNow refreshSessions removeQuerySettings
		removeShard removeShardFromZone renameCollection replSetAbortPrimaryCatchUp replSetFreeze replSetGetConfig replSetGetRBID
		replSetGetStatus replSetInitiate replSetMaintenance replSetReconfig replSetResizeOplog replSetStepDown replSetStepUp
		replSetSyncFrom resetError reshardCollection resync rotateCertificates rotateFTDC saslContinue saslStart serverStatus
		setAllowMigrations setAuditConfig setChangeStreamState setClusterParameter setDefaultRWConcern setFeatureCompatibilityVersion
		setFreeMonitoring setParameter setQuerySettings setShardVersion setUserWriteBlockMode shardCollection shardConnPoolStats
		shardingState shutdown sleep split splitChunk splitVector startRecordingTraffic startSession stopRecordingTraffic top touch
		transitionFromDedicatedConfigServer transitionToDedicatedConfigServer unsetSharding unshardCollection
		untrackUnshardedCollection updateZoneKeyRange waitForFailPoint whatsmyuri`)
	return m
}()

// otherName stands for every other command. The conventions of OpenTelemetry have this value for
// everything without a name.
const otherName = "_OTHER"

// displayName returns name, or _OTHER for the name of an unknown command.
func displayName(name string) string {
	if _, known := commandScopes[name]; known {
		return name
	}
	return otherName
}

// describe returns the Command for layers, without Namespace, Server and Text.
func describe(name string, command bson.Raw) driver.Command {
	about, known := commandScopes[name]
	if !known {
		return driver.Command{Name: otherName}
	}
	cmd := driver.Command{Name: name, Target: target(name, command), Batch: batch(name, command)}
	cmd.OnDatabase = about != ofDeployment && cmd.Target == ""
	if cmd.Batch > 0 && name != bulkWrite {
		cmd.Name = "BATCH " + name
	}
	return cmd
}

// target returns the collection of a command, or "" if there is none.
func target(name string, command bson.Raw) string {
	key := name
	switch {
	case name == getMore:
		key = "collection"
	case commandScopes[name] != ofCollection:
		return ""
	}
	// For an aggregate on a database the value is a number.
	collection, _ := command.Lookup(key).StringValueOK()
	if strings.HasPrefix(collection, "$cmd.") { // of a cursor on the database
		return ""
	}
	return collection
}

// Package redispool
package redispool

// Package lfs stores objects on the Hub by the LFS protocol (hub-protocol
// §6.2): the batch call, one PUT or many in parallel, completion and
// verification, resumed where an earlier try ended.
//
// It decides what is sent and what a failure means; how a request travels,
// with which token, pace and patience, is the [Sender]'s affair.
package lfs

// Package hub names the things on the Hub: repositories, references, entries,
// commits, and the errors the Hub can answer with.
//
// It holds no state and does no I/O. Every other package speaks in its terms.
package hub

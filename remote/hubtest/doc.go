// Package hubtest is the Hub in a process: for tests, demonstrations and
// offline development.
package hubtest

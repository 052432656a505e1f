package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"sync"
	"syscall"
)

// tidy holds what must not outlive the program: mounts, Hubs, peers. It is
// safe for concurrent use, since a signal ends the program in the middle.
type tidy struct {
	mu   sync.Mutex
	list []*func() // guarded by mu, oldest first
}

// add remembers f until the returned function is called.
func (t *tidy) add(f func()) (forget func()) {
	p := &f
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = append(t.list, p)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.list = slices.DeleteFunc(t.list, func(q *func()) bool { return p == q })
	}
}

// end does what is remembered, the youngest first, once.
func (t *tidy) end() {
	t.mu.Lock()
	list := t.list
	t.list = nil
	t.mu.Unlock()
	for _, f := range slices.Backward(list) {
		(*f)()
	}
}

// endOnSignal ends the program tidily when it is asked to end.
func (t *tidy) endOnSignal() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		s := <-c
		fmt.Fprintln(os.Stderr, "bench:", s)
		t.end()
		os.Exit(130)
	}()
}

// detach takes a mount away that could not be unmounted in good order.
func detach(dir string) {
	_ = exec.Command("fusermount3", "-u", "-z", dir).Run()
}

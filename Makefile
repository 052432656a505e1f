# The targets that people and CI call. Long recipes are scripts.

GO       ?= go
FUZZTIME ?= 5s
REPO     ?=

export REPO ONCE FUZZTIME

.PHONY: build run test race lint fuzz integration e2e bench bench-quick clean

# build makes bin/hfmount.
build:
	$(GO) build -o bin/hfmount ./cmd/hfmount

# run mounts a sample repository of a local Hub at ./mnt until Ctrl-C.
# REPO=org/name mounts that repository of the real Hub instead; ONCE=1 ends by itself.
run: build
	./integration/demo.sh

# TOOLS is what the tests run, as command:package.
TOOLS = fusermount3:fuse3 git:git python3:python3 getfattr:attr rsync:rsync fio:fio stress-ng:stress-ng

# test runs everything, mounts included; it needs /dev/fuse, and installs what
# the tests run if it can.
test:
	./integration/need.sh $(TOOLS)
	$(GO) test -timeout 30m ./...

# race runs the packages under the race detector; the mounts of integration
# are served by a process of their own, which it would not see.
race:
	$(GO) test -race -timeout 30m $$($(GO) list ./... | grep -v '^hfmount/integration')

lint:
	./.ci/lint

# fuzz runs each fuzz target for FUZZTIME.
fuzz:
	./.ci/fuzz

integration:
	./integration/need.sh $(TOOLS)
	$(GO) test -count=1 -timeout 30m ./integration/...

# e2e runs the official Python and JavaScript clients against hfmount.
e2e: build
	./integration/e2e/run.sh

# bench measures; BENCH_WRITE=1 also puts the table into docs/BENCHMARKS.md.
bench:
	./integration/bench/run.sh

# bench-quick runs all of it with tiny sizes, to prove that it works.
bench-quick:
	./integration/bench/run.sh -quick

clean:
	rm -rf bin .run

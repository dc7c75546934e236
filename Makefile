# What can be done with this tree. `make` alone lists it.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# Static binaries without the builder's paths. The version is handed in, so that
# a tree without git, or owned by somebody else, builds too.
GO_BUILD = CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)'

N      ?= 1000
ROUNDS ?= 10
JOBS   ?= 200
# What `make test` tests, and flags of go test before it: make test PKG=./shared/job TESTFLAGS=-race
PKG       ?= ./...
TESTFLAGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup build demo test sim torture day trials bench bench-checkpoint lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## install the system packages that some suites need (docker and its like, Python tools)
	@.ci/setup

build: ## build bin/anycloud and bin/anycloud-agent
	@mkdir -p bin
	$(GO_BUILD) -o bin/anycloud ./cmd/anycloud
	$(GO_BUILD) -o bin/anycloud-agent ./cmd/anycloud-agent
	$(GO_BUILD) -o bin/digits ./examples/digits

demo: build ## train on this machine's pretended spot VMs, through two preemptions
	go run ./examples/demo

test: ## run every test, then a line per suite: ran, or left out and why (PKG=, TESTFLAGS=)
	@go run ./shared/internal/suite/report $(TESTFLAGS) $(PKG)

sim: ## run N seeded schedules of faults against the control plane (N=1000)
	go run ./shared/sim/cmd/sim -n $(N)

torture: ## kill real processes at random while jobs run (ROUNDS=10)
	go test -count=1 -timeout 60m -run TestTorture ./shared/torture -rounds=$(ROUNDS)

# How much of each trial `make trials` runs.
TRIALS ?= -kills=1000 -fencing=60s

trials: ## the checkpoint engine under kills and rival attempts, in full counts (TRIALS=)
	go test -count=1 -timeout 120m -v ./shared/checkpoint/trial $(TRIALS)

day: ## a day in fast motion: JOBS jobs of all kinds under preemptions (JOBS=200)
	go test -count=1 -timeout 60m -run TestDay -v ./shared/torture -jobs=$(JOBS)

bench: ## measure notice to launch, and the sweep of many jobs
	go test -count=1 -run TestBench -v ./shared/controlplane/bench -notices=1000 -jobs=10000

bench-checkpoint: setup ## the checkpoint engine beside rclone and restic, in full; rewrites docs/benchmarks.md
	GOBIN="$(CURDIR)/.cache/bin" go install github.com/rclone/rclone@v1.76.0
	go test -count=1 -timeout 150m -run TestBench -v ./shared/checkpoint/bench -full -write="$(CURDIR)/docs/benchmarks.md"

lint: ## gofmt, go vet, staticcheck, and the CLI's builds for macOS and Windows
	@bad=$$(gofmt -l .); if [ -n "$$bad" ]; then echo "not gofmt'ed (run gofmt -w):"; echo "$$bad"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...
	GOOS=darwin GOARCH=arm64 go build -o /dev/null ./cmd/anycloud
	GOOS=windows GOARCH=amd64 go build -o /dev/null ./cmd/anycloud

clean: ## remove what build made
	rm -rf bin

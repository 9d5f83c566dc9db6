# Everything a newcomer types. Needs Go, git and make; redis-server on PATH makes the Redis of the demo and the tests a real one.
SHELL := /bin/sh
GO    ?= go
BIN   := $(CURDIR)/.bin
TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/poolstack

GOLANGCI_VERSION := v2.15.0
GOLANGCI := $(TOOLS)/golangci-lint-$(GOLANGCI_VERSION)/golangci-lint

# Of the demo: make demo ARGS='-duration 20s -rate 200 -seed 7'
ARGS ?=

.PHONY: help
help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: servers ## watch two pools live through an outage (a minute), and draw it in outage.html
	@cd examples && CGO_ENABLED=0 $(GO) build -o $(BIN)/outage ./outage
	@$(BIN)/servers -- $(BIN)/outage $(ARGS)

# The examples' tests run programs and read files that the go command knows nothing of, so none of their results are taken from its cache.
.PHONY: test
test: servers ## run all tests against real servers, which it starts and stops
	CGO_ENABLED=0 $(BIN)/servers -- $(GO) test ./...
	cd examples && CGO_ENABLED=0 $(BIN)/servers -- $(GO) test -count=1 ./...

.PHONY: test-race
test-race: servers ## the same with the race detector (needs a C compiler)
	CGO_ENABLED=1 $(BIN)/servers -- $(GO) test -race -timeout 30m ./...
	cd examples && CGO_ENABLED=1 $(BIN)/servers -- $(GO) test -race -timeout 30m ./...

.PHONY: lint
lint: $(GOLANGCI) ## vet and lint all modules
	$(GO) vet ./...
	cd examples && $(GO) vet ./...
	cd examples/collector && $(GO) vet ./...
	$(GOLANGCI) run ./...
	cd examples && $(GOLANGCI) run ./...
	cd examples/collector && $(GOLANGCI) run ./...

# Of bench and judge: make bench ONLY=redis,costs measures some groups only, and leaves RESULTS.md alone.
ONLY ?=

.PHONY: bench
bench: ## measure beside the peers, into examples/bench/RESULTS.md (8 minutes, on a quiet machine); fails when a gate falls short
	@mkdir -p $(BIN)
	@cd examples && CGO_ENABLED=0 $(GO) build -o $(BIN)/bench ./bench
	$(BIN)/bench $(if $(ONLY),-only $(ONLY),-out examples/bench/RESULTS.md)

.PHONY: judge
judge: ## run the default stack beside the bare clients while servers fail, into examples/judge/RESULTS.md and README.md (14 minutes); fails when a gate falls short
	@mkdir -p $(BIN)
	@cd examples && CGO_ENABLED=0 $(GO) build -o $(BIN)/judge ./judge
	$(BIN)/judge $(if $(ONLY),-only $(ONLY),-out examples/judge/RESULTS.md -readme README.md)

.PHONY: fmt
fmt: ## format the code
	gofmt -s -w $$(git ls-files '*.go')

.PHONY: generate
generate: ## write what is generated from tables in code
	$(GO) generate ./...

.PHONY: tidy
tidy: ## tidy all modules
	$(GO) mod tidy
	cd examples && $(GO) mod tidy
	cd examples/collector && $(GO) mod tidy

.PHONY: up
up: ## start the demo in containers: servers, Collector, Jaeger, Tempo, Prometheus, Grafana on http://127.0.0.1:3000
	docker compose up --build --wait

.PHONY: down
down: ## stop them and remove their data
	docker compose down --volumes

.PHONY: tools
tools: ## build what the slow tests need: Jaeger, the OpenTelemetry Collector, docker compose (6 minutes, once)
	cd examples && POOLSTACK_LIVE=1 CGO_ENABLED=0 $(GO) test -timeout 60m -v -run TestTools ./tools

.PHONY: servers
servers:
	@echo "Building the test servers (FerretDB, toxiproxy) and the program: about 3 minutes the first time, then seconds."
	@mkdir -p $(BIN)
	@cd examples && CGO_ENABLED=0 $(GO) build -o $(BIN)/servers ./servers

$(GOLANGCI):
	GOBIN=$(dir $@) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

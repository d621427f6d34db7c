# Fairway. `make` alone prints this help.
SHELL := /bin/bash
GO ?= go
KUBERNETES := v1.37.2
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.1.0-dev)
export CGO_ENABLED := 0
UPSTREAM_LDFLAGS := -s -w \
  -X k8s.io/component-base/version.gitVersion=$(KUBERNETES) \
  -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37 \
  -X k8s.io/client-go/pkg/version.gitVersion=$(KUBERNETES) \
  -X k8s.io/client-go/pkg/version.gitMajor=1 -X k8s.io/client-go/pkg/version.gitMinor=37
LDFLAGS := $(UPSTREAM_LDFLAGS) -X fairway.dev/fairway/internal/app.Version=$(VERSION)
# The rooms without Kubernetes inside are small enough to test with the race detector, which needs cgo.
RACE := ./internal/model/... ./internal/metrics/... ./internal/store/... ./internal/plan/... ./internal/dataplane/... ./internal/dns/... ./internal/ingress/...

.PHONY: help
help: ## print this help
	@echo "Fairway: the Kubernetes Service, whole, in one binary."; echo
	@grep -hE '^[a-z0-9./-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

.PHONY: setup
setup: ## install what is missing from Debian's packages, or say what that is
	@scripts/setup

.PHONY: build
build: ## build bin/fairway
	@command -v $(GO) >/dev/null || { echo "make: Go 1.26 is missing; get it from https://go.dev/dl" >&2; exit 1; }
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/fairway ./cmd/fairway

.PHONY: test
test: setup build bin/kube-apiserver bin/etcd bin/e2e.test bin/kube-proxy bin/coredns ## every test: rooms, packets in the kernel, the story end to end (root)
	$(GO) vet ./...
	@test -z "$$(gofmt -l cmd internal examples test)" || { echo "gofmt these:"; gofmt -l cmd internal examples test; exit 1; }
	CGO_ENABLED=1 $(GO) test -race $(RACE)
	FAIRWAY=$(CURDIR)/bin/fairway KUBE_APISERVER=$(CURDIR)/bin/kube-apiserver ETCD=$(CURDIR)/bin/etcd KUBE_PROXY=$(CURDIR)/bin/kube-proxy COREDNS=$(CURDIR)/bin/coredns $(GO) test -timeout 20m ./...

.PHONY: demo
demo: setup build ## run the story of examples/imaging and print what happened (root)
	$(GO) run ./examples/imaging/cmd/story --fairway $(CURDIR)/bin/fairway

.PHONY: conformance-api
conformance-api: setup build bin/e2e.test ## run the tests of Kubernetes' conformance suite that need no Pod (root)
	FAIRWAY=$(CURDIR)/bin/fairway $(GO) test -count=1 -v -run '^TestConformance$$' ./test/e2e

.PHONY: load
load: setup build ## roll a Deployment twenty times, kill fairway meanwhile, and count 200,000 requests and more: none may fail (root)
	FAIRWAY_LOAD=full FAIRWAY=$(CURDIR)/bin/fairway $(GO) test -count=1 -v -timeout 20m -run '^TestRolls$$' ./test/e2e

.PHONY: bench
bench: setup build ## print the numbers of a start and of being idle (root)
	$(GO) run ./bench --fairway $(CURDIR)/bin/fairway

# What is measured, and how many Services of how many endpoints: make bench-dataplane WORLD=50000x2
WORLD ?= 10000x10
.PHONY: bench-dataplane
bench-dataplane: setup build bin/kube-apiserver bin/etcd bin/kube-proxy ## print the numbers of the data plane beside kube-proxy's (root)
	$(GO) run ./bench/dataplane --fairway $(CURDIR)/bin/fairway --kube-proxy $(CURDIR)/bin/kube-proxy \
	  --kube-apiserver $(CURDIR)/bin/kube-apiserver --etcd $(CURDIR)/bin/etcd --world $(WORLD)

.PHONY: bench-api
bench-api: setup build bin/kube-apiserver bin/etcd ## print the numbers of the API beside kube-apiserver's (root)
	$(GO) run ./bench/api --fairway $(CURDIR)/bin/fairway --kube-apiserver $(CURDIR)/bin/kube-apiserver --etcd $(CURDIR)/bin/etcd

# Upstream's own programs, the oracles and peers of tests and benchmarks, built from their modules as test/oracle pins them.
UPSTREAM := cd test/oracle && $(GO) build -ldflags '$(UPSTREAM_LDFLAGS)' -o $(CURDIR)/

bin/kube-apiserver: test/oracle/go.mod ## build upstream's API server, which ours is compared with
	$(UPSTREAM)$@ k8s.io/kubernetes/cmd/kube-apiserver

bin/etcd: test/oracle/go.mod ## build upstream's etcd, for bin/kube-apiserver
	$(UPSTREAM)$@ go.etcd.io/etcd/server/v3

bin/kube-proxy: test/oracle/go.mod ## build upstream's kube-proxy, the peer of the data plane
	$(UPSTREAM)$@ k8s.io/kubernetes/cmd/kube-proxy

bin/coredns: test/oracle/coredns/go.mod test/oracle/coredns/main.go ## build CoreDNS, which our answers are compared with
	cd test/oracle/coredns && $(GO) build -ldflags '-s -w' -o $(CURDIR)/$@ .

bin/e2e.test: test/oracle/go.mod ## build upstream's end-to-end tests
	cd test/oracle && $(GO) test -c -ldflags '$(UPSTREAM_LDFLAGS)' -o $(CURDIR)/$@ k8s.io/kubernetes/test/e2e

.PHONY: lint
lint: ## gofmt, go vet and staticcheck
	@test -z "$$(gofmt -l cmd internal examples test bench)" || { echo "gofmt these:"; gofmt -l cmd internal examples test bench; exit 1; }
	$(GO) vet ./...
	$(GO) tool -modfile=scripts/tools/go.mod staticcheck ./cmd/... ./internal/... ./examples/... ./test/... ./bench/...

.PHONY: generate
generate: ## rewrite generated files
	$(GO) generate ./...

.PHONY: clean
clean: ## remove what was built
	rm -rf bin out

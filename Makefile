# `make` prints the targets. Needs Go; deploy/install.sh installs the rest.

BIN      := bin/tintype
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 30s
TOOL     := CGO_ENABLED=0 go tool -modfile=proto/tools.mod
PLUGINS  := .tmp/bin

.DEFAULT_GOAL := help
.PHONY: help up test deps build generate fmt lint verify race fuzz bench golden load plants cluster chaos vendor-web soak vendor-devices vendor-consent

help: ## print the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 18

up: ## install what is missing, build, start, render the bundled page; Ctrl-C drains
	@sh deploy/install.sh
	@$(MAKE) --no-print-directory build
	@exec $(BIN) up --demo $(ARGS)

test: ## install what the tests need, lint, check generated code, run every test
	@sh deploy/install.sh test
	@$(MAKE) --no-print-directory lint verify race

deps: ## install what is missing, fetch the modules
	@sh deploy/install.sh
	go mod download

build: ## build bin/tintype
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN) .

# Generated code is checked in; $(1) is the root to write it below.
define write_generated
	@mkdir -p $(1)/proto $(1)/api $(1)/pkg/client $(1)/pkg/config
	@CGO_ENABLED=0 GOBIN='$(CURDIR)/$(PLUGINS)' go install -modfile=proto/tools.mod \
		google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
	protoc -Iproto --plugin=$(PLUGINS)/protoc-gen-go --plugin=$(PLUGINS)/protoc-gen-go-grpc \
		--go_out=$(1)/proto --go_opt=paths=source_relative \
		--go-grpc_out=$(1)/proto --go-grpc_opt=paths=source_relative \
		$$(cd proto && ls tintype/v1/*.proto)
	@mkdir -p $(1)/docs && { [ $(1) = . ] || cp api/openapi.yaml $(1)/api/; }
	CGO_ENABLED=0 go run ./pkg/option/optiongen $(1)/api/openapi.yaml $(1)/docs/options.md $(1)/pkg/config/options.gen.go
	$(TOOL) oapi-codegen -config api/oapi-codegen.yaml -o $(1)/api/openapi.gen.go api/openapi.yaml
	$(TOOL) oapi-codegen -config pkg/client/oapi-codegen.yaml -o $(1)/pkg/client/client.gen.go api/openapi.yaml
endef

generate: ## write the generated code anew (protoc, the option table, oapi-codegen)
	$(call write_generated,.)

verify: ## fail if the generated code is not what generate would write
	@rm -rf .tmp/verify
	$(call write_generated,.tmp/verify)
	@cd .tmp/verify && find . -type f | while read -r f; do diff -u "$(CURDIR)/$$f" "$$f" || exit 1; done

# What /docs shows the contract with; it is checked in, packed.
SCALAR     := 1.72.1
SCALAR_SUM := bf091006bdc3af6067af77c2f534812e3e633e94a94e87138069f570f33b762c

vendor-web: ## fetch what the pages are made of from npm, and compare its digest
	@rm -rf .tmp/web && mkdir -p .tmp/web
	cd .tmp/web && npm pack --silent @scalar/api-reference@$(SCALAR) && tar xzf scalar-api-reference-$(SCALAR).tgz package/dist/browser/standalone.js
	echo '$(SCALAR_SUM)  .tmp/web/package/dist/browser/standalone.js' | sha256sum -c -
	gzip -9nc .tmp/web/package/dist/browser/standalone.js > api/web/scalar.js.gz

fmt: ## format the code
	$(TOOL) gofumpt -w .

lint: ## gofumpt, go vet, staticcheck
	@out=$$($(TOOL) gofumpt -l .); [ -z "$$out" ] || { echo "not formatted (make fmt):"; echo "$$out"; exit 1; }
	CGO_ENABLED=0 go vet ./...
	$(TOOL) staticcheck ./...

race: ## run every test with the race detector
	CGO_ENABLED=1 go test -race -timeout 15m ./...

fuzz: ## run every fuzz target for FUZZTIME (30s)
	@go list ./... | while read -r pkg; do \
		for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

bench: ## run every benchmark
	CGO_ENABLED=0 go test -run '^$$' -bench . -benchmem ./...

golden: ## write the golden pictures and files anew that the tests do not make any more; look at them before you commit
	CGO_ENABLED=0 go test -count=1 -timeout 15m $(ARGS) ./worker ./api ./pkg/config ./pkg/account -update

load: ## measure the control plane on a null renderer: 1, 64 and 256 clients
	@mkdir -p .tmp && CGO_ENABLED=0 go build -o .tmp/loadtest ./loadtest
	@for n in 1 64 256; do .tmp/loadtest control --clients $$n $(ARGS) || exit 1; done

plants: ## plant known bugs in a copy; each must be noticed by its test
	@mkdir -p .tmp && CGO_ENABLED=0 go build -o .tmp/loadtest ./loadtest
	@.tmp/loadtest plants $(ARGS)

cluster: ## run 3 NATS, Postgres, S3, 2 schedulers, 2 APIs, 2 workers on this machine; Ctrl-C stops
	@sh deploy/install.sh
	@$(MAKE) --no-print-directory build
	@mkdir -p .tmp && CGO_ENABLED=0 go build -trimpath -o .tmp/nats-server github.com/nats-io/nats-server/v2
	@BIN=$(BIN) NATS=.tmp/nats-server exec sh deploy/cluster.sh

chaos: ## kill the parts of a farm at work, 100 times over 5,000 jobs and three seeds; audit what is left
	@mkdir -p .tmp && CGO_ENABLED=0 go build -o .tmp/loadtest ./loadtest
	@.tmp/loadtest chaos --seed 1,2,3 --jobs 5000 --kills 100 --results .tmp/chaos.jsonl $(ARGS)

soak: ## render 10,000 pages, 5 of 100 hostile, and look for what grows or is left; goes on where it was interrupted
	@mkdir -p .tmp && CGO_ENABLED=0 go build -o .tmp/loadtest ./loadtest
	@.tmp/loadtest soak --state .tmp/soak.jsonl $(ARGS)

vendor-devices: ## write the list of devices anew from npm's playwright-core
	sh pkg/device/vendor.sh

vendor-consent: ## fetch what rejects cookie banners anew from npm, and compare its digest
	sh worker/capture/autoconsent/vendor.sh

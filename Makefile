# `make run` starts a server with working defaults; `make test` runs every test. Both install what they lack.

# Nearly as fast as release and far quicker to compile; one target folder for everything.
PROFILE := quick
VECHE := target/$(PROFILE)/veche

.PHONY: run build built test test-rust test-web test-python test-api test-browsers test-interop fuzz lint licences format web networks bench bench-compare load release help

help: ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: build ## Build and start the server; prints the addresses to open
	@exec $(VECHE) $(ARGS)

build: ## Build the server
	@scripts/need build
	@cargo build --profile $(PROFILE) --package veche

# The binary that the tests in Rust have built: with --package nearly everything would be compiled once more.
built:
	@scripts/need build
	@cargo test --quiet --workspace --profile $(PROFILE) --no-run --test running

load: ## Put a running server under load: ARGS="--subscribers 50"
	@cargo run --quiet --package veche-load --profile $(PROFILE) -- $(ARGS)

release: ## Build the server for production
	@scripts/need build
	cargo build --release --package veche

test: test-rust test-web test-python test-api test-browsers test-interop ## Run every test

test-rust: ## The core in virtual time, the shell, signaling, server: everything in Rust
	@scripts/need build acme coturn media nchan network postgres
	@scripts/nextest run --workspace --no-fail-fast --cargo-profile $(PROFILE)
	@cargo test --quiet --workspace --profile $(PROFILE) --doc

test-web: web/node_modules ## The SDK and the app: types, lints, tests
	@cd web && npm run --silent check && npm run --silent lint && npm run --silent test && npm pack --silent --dry-run --workspace sdk >/dev/null

test-python: built ## The Python package against a real server: lints, types, tests
	@scripts/need python
	@VECHE_BIN=$${VECHE_BIN:-$(CURDIR)/$(VECHE)} clients/python/run-tests

test-api: built ## The HTTP API against its own description, by schemathesis
	@scripts/need python
	@tests/api/run $${VECHE_BIN:-$(VECHE)}

test-browsers: built tests/e2e/node_modules ## Calls between real browsers
	@scripts/need browsers
	@cargo build --quiet --profile $(PROFILE) --package veche-testkit --bins
	@cd tests/e2e && npm test --silent

test-interop: built ## Calls and uploads with other people's stacks
	@scripts/need python
	@tests/interop/aiortc/run
	@tests/interop/tus/run

fuzz: ## Fuzz every parser for SECONDS each
	@scripts/need build
	@tests/fuzz/run $(or $(SECONDS),60)

lint: ## Formatting and lints, warnings denied
	@scripts/need build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --profile $(PROFILE) -- -D warnings

licences: ## The dependencies: licences, unwanted crates, sources, by deny.toml
	@scripts/need build python
	@scripts/licences

format: ## Format everything
	cargo fmt --all

web: web/node_modules ## Build the web client into web/app/dist, which is committed
	@cd web && npm run --silent build

# `npm ci` wants the bindings of every platform in the lock file, which a mirror without them cannot give; `npm install`
# takes the locked versions as well.
web/node_modules: web/package-lock.json
	@scripts/need web
	@cd web && { npm ci --silent --no-audit --no-fund 2>/dev/null || npm install --silent --no-save --no-audit --no-fund; }
	@touch $@

tests/e2e/node_modules: tests/e2e/package-lock.json
	@scripts/need web
	@cd tests/e2e && npm ci --silent --no-audit --no-fund
	@touch $@

networks: ## Print the tables of docs/networks.md: congestion control by RFC 8867, and other networks
	@cargo run --quiet --package veche-sim --profile $(PROFILE) --example rfc8867
	@echo
	@cargo run --quiet --package veche-sim --profile $(PROFILE) --example targets

bench: ## Time the fan-out beside the bare loop
	cargo bench --package veche-sfu-core --bench fanout

bench-compare: build ## Veche beside Janus, Nchan and coturn (from Debian) and the bare loop; ARGS as in docs/speed.md
	@scripts/need janus nchan coturn
	@cargo build --profile $(PROFILE) --package veche-load
	@target/$(PROFILE)/bench-compare $(ARGS)

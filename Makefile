# Every task of the repository. `make` alone lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

cache := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/spiderpool
# Outside the tree, so that a second clone starts warm.
export CARGO_TARGET_DIR ?= $(cache)/target
export CARGO_TERM_PROGRESS_WHEN ?= auto

lab_crates := spiderpool-lab spiderpool-bench

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: build ## two nodes in namespaces, two Pods, every step of the page shown and asserted (root)
	@cargo run --quiet --release -p spiderpool-lab --bin demo

.PHONY: test
test: check build failpoints fuzz ## everything: check, hostile input, then the tests that need namespaces (root)
	cargo test $(addprefix -p ,$(lab_crates))

.PHONY: check
check: setup ## formatting, lints, unit tests: the usual loop
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cargo test --workspace $(addprefix --exclude ,$(lab_crates) spiderpool-fuzz)

# Of each target; as many run at a time as there are cores.
SECONDS ?= 10

.PHONY: fuzz
fuzz: setup ## hostile input to each parser, for 10 s or as many as SECONDS=60 says
	@tests/fuzz/run $(SECONDS)

.PHONY: lab
lab: build ## the demo's world, kept up until Ctrl-C, to look around in (root)
	@cargo run --quiet --release -p spiderpool-lab --bin lab

.PHONY: bench
bench: build ## ADD through our programs beside host-local's, in one table (root)
	@cargo run --quiet --release -p spiderpool-bench

# Programs that kill themselves where a test says; debug programs, as their dependencies are built for the other tests.
fail_programs := spiderpool-agent spiderpool coordinator

.PHONY: failpoints
failpoints: setup ## the programs with fail points, for the crash tests alone
	cargo build $(fail_programs:%=-p %) --features "$(fail_programs:%=%/failpoints)"
	install -D -t $(CARGO_TARGET_DIR)/failpoints $(fail_programs:%=$(CARGO_TARGET_DIR)/debug/%)

# A program that the runtime starts for every call has no loader to wait for, and no relocations to apply.
shim_flags := -C target-feature=+crt-static -C relocation-model=static

.PHONY: build
build: setup ## the programs as they are shipped
	cargo build --release -p spiderpool-agent
	cargo rustc --profile shim -p spiderpool -- $(shim_flags)
	cargo rustc --profile shim -p coordinator -- $(shim_flags)

.PHONY: deny
deny: ## licences, bans and sources of all dependencies (installs cargo-deny once: some minutes)
	command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny check bans licenses sources

.PHONY: setup
setup: ## install what is missing, once
	@tests/tools/setup

# Two commands: `make run` shows the main job on an embedded example, `make test` runs every test.
# Both install what a fresh Debian 12 with rustup, git and make lacks, and say so.

SHELL := /bin/bash
.DEFAULT_GOAL := help
# clang and libbpf-dev build the programs of waypoint/redirect for the kernel.
PACKAGES := build-essential clang cmake curl iproute2 libbpf-dev nftables
# One profile for run, test and clippy: wasmtime costs minutes of CPU per profile.
CARGO := cargo
# Tested apart: the filters' own dependencies would give wasmtime's other features, and build it twice.
TESTED := -p waypoint -p waypoint-abi -p waypoint-filters -p waypoint-policies -p waypoint-redirect -p waypoint-sdk
FILTERS := -p waypoint-filter-jwt-auth -p waypoint-filter-payload-router -p waypoint-filter-pii-redact

.PHONY: help run run-redirect test test-faults test-suites fuzz lint release perf setup

help:
	@echo "make run     build, start the example and print what to try (Ctrl-C ends it)"
	@echo "make run-redirect  the eBPF redirection, step by step (root)"
	@echo "make test    build and run every test"
	@echo "make test-faults  the long tests that make test leaves out"
	@echo "make test-suites  suites of others: h2spec, gRPC interop (needs Go)"
	@echo "make fuzz    the fuzz targets, FUZZ_SECONDS each (60; needs nightly Rust)"
	@echo "make lint    formatting and lints, as CI runs them"
	@echo "make release the binary to deploy, trained: target/trained/waypoint (builds twice)"
	@echo "make perf    CPU per request of that binary beside nginx and Envoy (run by hand)"

run: setup
	$(CARGO) build --locked -p waypoint
	@exec $${CARGO_TARGET_DIR:-target}/debug/waypoint demo $(ARGS)

# The redirection, step by step, in network namespaces of its own. Needs root.
run-redirect: setup
	$(CARGO) build --locked -p waypoint
	@$${CARGO_TARGET_DIR:-target}/debug/waypoint redirect demo

test: setup
	@.ci/envoy
	$(CARGO) test --locked $(TESTED) $(TESTS)
	$(CARGO) test --locked $(FILTERS) $(TESTS)

# The long versions of tests whose short ones `make test` runs.
test-faults: setup
	$(CARGO) test --locked -p waypoint --test it $(TESTS) -- --ignored --skip suites::

# What others have written to test what speaks our protocols.
test-suites: setup
	@.ci/suites
	$(CARGO) test --locked -p waypoint --test it suites:: -- --ignored

# What must hold for every input of the codec and the resources: waypoint/fuzz.
FUZZ_SECONDS ?= 60
fuzz: setup
	@.ci/fuzz $(FUZZ_SECONDS) $(FUZZ_TARGETS)

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

setup:
	@.ci/setup $(PACKAGES)

# The binary to deploy: compiled with what a load on it has shown.
release: setup
	@.ci/setup nghttp2-client nginx-light openssl wrk
	@.ci/release

# Run by hand: that binary beside nginx and Envoy in one run.
perf: release
	@.ci/envoy
	target/release/waypoint-perf target/trained/waypoint target/envoy/envoy

# Two commands: `make run` shows the main job on an embedded example, `make test` runs every test.
# Both install what a fresh Debian 12 with rustup, git and make lacks, and say so.

SHELL := /bin/bash
.DEFAULT_GOAL := help
PACKAGES := build-essential cmake curl
# One profile for run, test and clippy: wasmtime costs minutes of CPU per profile.
CARGO := cargo

.PHONY: help run test lint fmt setup

help:
	@echo "make run     build, start the example and print what to try (Ctrl-C ends it)"
	@echo "make test    build and run every test"
	@echo "make lint    formatting and lints, as CI runs them"

run: setup
	$(CARGO) build --locked -p waypoint
	@exec target/debug/waypoint demo $(ARGS)

test: setup
	$(CARGO) test --locked --workspace $(TESTS)

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

setup:
	@.ci/setup $(PACKAGES)

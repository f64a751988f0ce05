# Everything that is done to this repository; `make help` lists it.

# The tests and the demo make networks and start Docker engines: as another user than root they go through sudo.
ifneq ($(shell id -u),0)
SUDO := sudo -E env "PATH=$$PATH:/usr/sbin:/sbin"
HOST := $(shell PATH="$$PATH:$$HOME/.cargo/bin" rustc -vV 2>/dev/null | sed -n 's/^host: //p')
# With this Cargo starts each test program.
RUNNER := CARGO_TARGET_$(shell echo '$(HOST)' | tr 'a-z-' 'A-Z_')_RUNNER
export $(RUNNER) := sudo -E
endif

export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin

.PHONY: help setup build test unit lint fmt deny demo bench figures fuzz side-by-side soak

help:            ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

setup:           ## installs what is missing (Debian 12, root or sudo)
	@sh tests/setup.sh

build: setup     ## builds every program, for debugging
	cargo build --workspace --bins

test: setup lint deny   ## format, lints, licences, and every test: units, properties, end to end
	@echo '== build'
	cargo build --workspace --bins
	@echo '== tests'
	@if command -v cargo-nextest >/dev/null; then \
		cargo nextest run --workspace --no-fail-fast && cargo test --workspace --doc --quiet; \
	else \
		cargo test --workspace --no-fail-fast; \
	fi

unit:            ## the tests that start neither an engine nor the program
	cargo test --workspace --lib --bins

lint: setup      ## format and clippy, warnings are errors
	@echo '== format'
	cargo fmt --all --check
	@echo '== lints'
	cargo clippy --workspace --all-targets -- -D warnings

fmt:             ## formats everything
	cargo fmt --all

deny:            ## licences, banned and doubled crates, advisories; needs cargo-deny
	@sh tests/deny.sh

demo: setup      ## the main job on a real engine, until Ctrl-C; ONCE=1 ends by itself
	$(SUDO) env ONCE='$(ONCE)' bash examples/demo/demo.sh

bench:           ## micro-benchmarks of the data plane, with the release profile
	cargo bench -p fairway-proxy --bench codec --bench table

fuzz:            ## fuzzes what reads octets of strangers, TARGET by TARGET for SECONDS (600); see fuzz/run.sh
	@for target in $(or $(TARGET),$(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))); do \
		sh fuzz/run.sh $$target $(or $(SECONDS),600) || exit 1; \
	done

soak: setup      ## deploys and accidents on a real engine under a counted load (35 minutes); ROWS=rolling for some, WRITE=docs/reliability.md
	cargo build --workspace --bins
	FAIRWAY_SOAK=whole FAIRWAY_SOAK_WRITE='$(abspath $(WRITE))' \
		cargo test --test soak -- --nocapture --test-threads=1 $(ROWS)

side-by-side:    ## Fairway beside nginx and haproxy (about 30 minutes); ROWS='h1 churn' for some, WRITE=docs/performance.md
	sh benches/side_by_side/run.sh measure $(ROWS) $(if $(WRITE),--write $(WRITE))

figures: setup   ## the figures of the README, against private Docker engines (about 15 minutes)
	cargo build --profile quick --workspace --bins
	cargo bench --profile quick --bench figures fuzz side-by-side
	cargo run --profile quick -p fairway-proxy --example table_figures

# Every command of this repository; .ci/run runs the same ones.

# Tests that stand on one control plane: more at once than this make each other late on a small machine.
RUST_TEST_THREADS ?= 3
export RUST_TEST_THREADS
# The cache of built control planes (e2e/README.md).
CACHE = $${XDG_CACHE_HOME:-$$HOME/.cache}/capf-operator
# Targets below tests/ need no cluster, those below e2e/ start one.
FAST = $$(ls tests/*.rs tests/*/main.rs | sed 's|^tests/\([a-z0-9_]*\).*|--test \1|')
E2E = $$(awk -F'"' '/^\[\[/ { test = /test/ } /^name/ { name = $$2 } /^path = "e2e/ && test { print "--test", name }' Cargo.toml)
# Three rows of targets run beside each other, because all of them wait most of their time: one on the node, one of those that
# wait for Leases longest, and all others, each on control planes of its own. What a row prints is shown when it is over.
ON_NODE = cluster node image
WAITING = faults gitops harness
OTHERS = $$(printf '%s %s\n' $(E2E) | grep -vxF $(foreach name,$(ON_NODE) $(WAITING),-e '--test $(name)'))
BESIDE = $(MAKE) --no-print-directory --jobs=3 --output-sync=target --keep-going
# Cargo takes make's word for how much it may do at once, which is not meant here.
ALONE = env -u MAKEFLAGS

.PHONY: help
help: ## List these commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: build
build: ## Build the program capf
	cargo build

.PHONY: demo
demo: build ## Show it all: a real API server, forty phones, their certificates; half a minute after the build
	cargo run --example demo

.PHONY: demo-stay
demo-stay: build ## The same, and leave it running until Ctrl-C, to try things
	cargo run --example demo -- --stay

.PHONY: bench
bench: ## Measure enrolments a second beside bare status patches of the same API server; ten minutes, last line JSON
	cargo build --release
	cargo build --release --example bench
	CAPF_BIN=target/release/capf target/release/examples/bench

.PHONY: guess
guess: build ## Guess 100,000 wrong strings, twice, while two replicas are killed; a quarter of an hour, says what it cost
	cargo run --example guess

.PHONY: faults
faults: build ## Let phones enrol for two minutes while the API server answers errors and loses replies; FAULTS= more options
	cargo run --example storm -- $(FAULTS)

.PHONY: soak
soak: build ## Run everything for ten minutes, a random fault each minute: memory and violations; SOAK= more options
	cargo run --example soak -- $(SOAK)

.PHONY: abuse
abuse: ## Kill, stop, crowd and starve the product, and see that it holds; a quarter of an hour; one part: ABUSE="--only crowd"
	cargo build --release
	cargo build --release --example abuse
	CAPF_BIN=target/release/capf target/release/examples/abuse $(ABUSE)

.PHONY: image
image: ## Build the container image, as an OCI archive target/image/capf-operator.tar; no builder, no registry
	image/build

.PHONY: images
images: ## Build that and the image of the commit before, from which tests upgrade, where a node can run (e2e/README.md)
	e2e/cluster/images

.PHONY: repro
repro: ## Build the image of the last commit twice, from nothing and in two places, and compare the bytes
	image/repro

.PHONY: test
test: images ## Run every test; the first time builds a control plane, in some minutes (e2e/README.md)
	cargo test --no-run --lib --bins --tests
	$(BESIDE) test-on-node test-waiting test-others
	cargo test --doc

.PHONY: test-fast
test-fast: ## Run the tests that need no cluster
	cargo test --lib --bins $(FAST)
	cargo test --doc

.PHONY: e2e
e2e: images ## Run the tests on a real control plane, and on a real node where that can be had
	cargo test --no-run $(E2E)
	$(BESIDE) test-on-node test-waiting e2e-others

.PHONY: test-on-node test-waiting test-others e2e-others
test-on-node:
	$(ALONE) cargo test --no-fail-fast $(addprefix --test ,$(ON_NODE))
test-waiting:
	$(ALONE) cargo test --no-fail-fast $(addprefix --test ,$(WAITING))
test-others:
	$(ALONE) cargo test --no-fail-fast --lib --bins $(FAST) $(OTHERS)
e2e-others:
	$(ALONE) cargo test --no-fail-fast $(OTHERS)

.PHONY: lint
lint: ## Check the format, and clippy's and the compiler's lints
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

.PHONY: doc
doc: ## Make the documentation of the code, below target/doc; a broken link is an error
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items

.PHONY: deny
deny: ## Check licences, banned crates and sources of the dependencies
	@cargo deny --version >/dev/null 2>&1 || \
		{ echo "cargo-deny is missing: cargo install --locked cargo-deny" >&2; exit 1; }
	cargo deny check --hide-inclusion-graph bans licenses sources

.PHONY: generate
generate: ## Make the generated files anew: crds/, docs/cli.md, docs/metrics.md, deploy/ and those of the chart
	cargo run --quiet -- crds --output crds
	mkdir -p docs && cargo run --quiet -- cli-reference > docs/cli.md
	cargo run --quiet -- metrics-reference > docs/metrics.md
	cargo run --quiet --example generate-chart

.PHONY: chart
chart: ## Check the chart and pack it into target/chart
	helm=$$(e2e/helm/build) && "$$helm" lint --strict charts/capf-operator && \
		"$$helm" package --destination target/chart charts/capf-operator

.PHONY: ci
ci: ## Run what is run before a change is accepted
	.ci/run

.PHONY: clean-cache
clean-cache: ## Remove the built control planes; the next test builds one again
	rm -rf "$(CACHE)"

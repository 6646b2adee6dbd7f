# The single entry point for contributors and CI. It needs Rust, Go and Python. tools/install builds everything else once.

CHART := charts/registry-grants
# Cargo's output folder, evaluated only where it is used.
BIN = $(shell cargo metadata --no-deps --offline --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug
PROMTOOL = $$(tools/install promtool | cut -d= -f2)
HELM = $$(tools/install helm | cut -d= -f2)
PYTHON = $$(tools/install python | cut -d= -f2)
LINTERS = $$(tools/install linters | cut -d= -f2)
TYPOS = $$(dirname $(LINTERS))/typos
CARGO_DENY = $$(tools/install cargo-deny | cut -d= -f2)
# Runs e2e in its own namespaces, so that all its processes end with it. With kind, Docker isolates them.
E2E = $(if $(filter kind,$(CLUSTER)),,exec env PYTHONPATH=tests/support PYTHONDONTWRITEBYTECODE=1 python3 -m node run --dir target/e2e --)

.PHONY: help build demo demo-down e2e test test-properties test-repeat lint crds management-roles metrics-reference chart rules lint-policies verify-policies emulation-check bench tools

help: ## list the targets
	@awk -F ':[^#]*## ' '/^[a-z0-9-]+:.*## / {printf "%-17s %s\n", $$1, $$2}' Makefile

# Building the tests builds their dependencies, and some other dependencies with more features. A target that also runs the tests builds
# them from the start, or the AWS SDK would be built twice.
BUILD ?= --bins
build: ## build everything
	cargo build --locked --workspace $(BUILD)

demo: build ## run the main workflow end to end; with KEEP=1 leave it running
	@$(BIN)/demo $(if $(filter-out 0 no,$(KEEP)),--keep)

# Does not depend on `build`, so that it works even if the sources do not compile.
demo-down: ## stop what `make demo KEEP=1` left running
	@if [ -x $(BIN)/demo ]; then $(BIN)/demo down; else echo 'no demo is running'; fi

# `tests/support/src/installation.rs` limits how many integration tests run at a time on one installation. Tests that wait for a permit must
# not prevent others from starting.
test: export RUST_TEST_THREADS ?= 48
# Uses the same inputs in each run, so that only a change can make a test fail. `test-properties` tries new inputs.
test: export PROPTEST_RNG_SEED ?= 1
# The message of a failed test names its place. A backtrace of the test framework only hides it.
test: export RUST_LIB_BACKTRACE ?= 0
test: BUILD = --bins --tests
test: lint chart lint-policies emulation-check ## run all checks
	cargo test --locked --workspace

test-properties: ## run the property tests with N times as many inputs as `test`, and new ones each time
	PROPTEST_CASES=$$((256 * $(or $(N),20))) cargo test --locked --lib

test-repeat: ## run the integration tests N times beside LOAD busy processes, and list every test that failed at least once
	tests/repeat.py --times $(or $(N),10) --load $(or $(LOAD),16)

lint: ## check formatting, spelling and clippy, and the licences, sources and advisories of the dependencies
	cargo fmt --all --check
	$(TYPOS)
	cargo clippy --locked --workspace --all-targets -- -D warnings
	tools/deny $(CARGO_DENY)

crds: build ## regenerate the custom resource definitions, here and in the chart, and their reference
	mkdir -p crds $(CHART)/files/crds
	$(BIN)/registry-grants crds --output-dir crds
	cp crds/*.yaml $(CHART)/files/crds/
	$(BIN)/registry-grants crds --reference >docs/reference/api.md

# The IAM documents for the accounts of examples/article.yaml. The demo and the tests use them.
OPERATOR_ROLE := arn:aws:iam::333333333333:role/registry-grants-operator
IAM_POLICY = $(BIN)/registry-grants iam-policy --operator-role-arn $(OPERATOR_ROLE) --external-id registry-grants-example
management-roles: build ## regenerate the documents of the operator's roles in examples/management-roles
	$(IAM_POLICY) --account registry --account-id 111111111111 --output-dir examples/management-roles/registry
	$(IAM_POLICY) --account consumer --account-id 222222222222 --output-dir examples/management-roles/consumer
	$(IAM_POLICY) --document operator >examples/management-roles/operator.json

metrics-reference: ## regenerate docs/reference/metrics.md
	WRITE_REFERENCE=1 cargo test --locked --test generated metrics_reference_is_up_to_date

chart: $(patsubst %,chart/%,$(wildcard $(CHART)/ci/*-values.yaml)) rules ## lint and render the chart, check its reference, rules and dashboard
	python3 charts/generate-docs.py --check

chart/%:
	$(HELM) lint --strict --quiet $(CHART) --values $*
	$(HELM) template registry-grants $(CHART) --namespace registry-grants --values $* >/dev/null

rules: ## test when the alerts fire, and parse the dashboard's queries
	$(PROMTOOL) check rules --lint=all --lint-fatal $(CHART)/files/prometheus-rules.yaml
	$(PROMTOOL) test rules tests/chart/rules_test.yaml
	tests/chart/dashboard-rules $(CHART)/files/dashboard.json | $(PROMTOOL) check rules --lint=all --lint-fatal

lint-policies: build ## check the generated IAM policies and templates with independent linters
	@$(LINTERS) tools/lint-policies $(BIN)/registry-grants

# Not part of `test`, because it needs Node, which nothing else does.
verify-policies: ## compare our policy evaluation with an independent simulator (needs Node)
	@simulator=$$(tools/install simulator) && REGISTRY_GRANTS_SIMULATOR=$${simulator#*=} \
		cargo test --locked --test verify_policies -- --include-ignored --nocapture

emulation-check: ## test what the AWS emulation allows and refuses
	$(PYTHON) tests/support/aws/selfcheck.py

bench: build ## measure what grants cost, time the policy code, fail over the limits; writes target/bench/*.json
	@$(BIN)/bench
	cargo bench --locked --bench policy
	@$(BIN)/bench times

tools: ## build the control plane, Helm, crane and the emulation if they are missing
	tools/install

e2e: build ## test on a complete cluster with a real kubelet and the operator in its Pod (Linux and root; or CLUSTER=kind)
	cargo build --release --locked --package registry-grants --bin registry-grants
	@$(E2E) $(BIN)/e2e $(if $(filter kind,$(CLUSTER)),--kind) $(if $(REPLICAS),--replicas $(REPLICAS))

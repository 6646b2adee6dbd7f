# The one entry point, for people and for CI. Needs Rust, Go and Python; everything else is built by tools/install, once.

CHART := charts/registry-grants
# Where cargo puts what it builds; asked for only where it is needed.
BIN = $(shell cargo metadata --no-deps --offline --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug
PROMTOOL = $$(tools/install promtool | cut -d= -f2)
HELM = $$(tools/install helm | cut -d= -f2)
PYTHON = $$(tools/install python | cut -d= -f2)
LINTERS = $$(tools/install linters | cut -d= -f2)
TYPOS = $$(dirname $(LINTERS))/typos
CARGO_DENY = $$(tools/install cargo-deny | cut -d= -f2)
# A machine of its own, with which ends all that runs in it; kind's is Docker's affair.
E2E = $(if $(filter kind,$(CLUSTER)),,exec env PYTHONPATH=tests/support PYTHONDONTWRITEBYTECODE=1 python3 -m node run --dir target/e2e --)

.PHONY: help build demo demo-down e2e test test-properties test-repeat lint crds management-roles metrics-reference chart rules lint-policies verify-policies emulation-check bench tools

help: ## list the targets
	@awk -F ':[^#]*## ' '/^[a-z0-9-]+:.*## / {printf "%-17s %s\n", $$1, $$2}' Makefile

# With the tests their dependencies are built as well, and some of the others with more features. A command that runs the tests too asks for them
# from the start, for else the AWS SDK is built twice.
BUILD ?= --bins
build: ## build everything
	cargo build --locked --workspace $(BUILD)

demo: build ## play the whole story and end everything; with KEEP=1 leave it running
	@$(BIN)/demo $(if $(filter-out 0 no,$(KEEP)),--keep)

# Without `build`: it has to work whatever state the sources are in.
demo-down: ## end what `make demo KEEP=1` left running
	@if [ -x $(BIN)/demo ]; then $(BIN)/demo down; else echo 'no demo was kept'; fi

# How many integration tests run at a time on one installation is decided by `tests/support/src/installation.rs`. Those that wait for their turn
# must not keep the others from beginning.
test: export RUST_TEST_THREADS ?= 48
# The same inputs in each run: what a change breaks is found in the change, and nothing fails by chance. `test-properties` tries new ones.
test: export PROPTEST_RNG_SEED ?= 1
# Where a test failed, its message says; a backtrace of the test framework only hides that.
test: export RUST_LIB_BACKTRACE ?= 0
test: BUILD = --bins --tests
test: lint chart lint-policies emulation-check ## everything that is checked
	cargo test --locked --workspace

test-properties: ## try the properties on N times as many inputs as `test` does, and on other ones each time
	PROPTEST_CASES=$$((256 * $(or $(N),20))) cargo test --locked --lib

test-repeat: ## run the integration tests N times beside other work (LOAD processes), and list every test that failed once
	tests/repeat.py --times $(or $(N),10) --load $(or $(LOAD),16)

lint: ## formatting, spelling, clippy, licences and sources of the dependencies and what is known against them
	cargo fmt --all --check
	$(TYPOS)
	cargo clippy --locked --workspace --all-targets -- -D warnings
	tools/deny $(CARGO_DENY)

crds: build ## write the custom resource definitions anew, here and in the chart, and their reference
	mkdir -p crds $(CHART)/files/crds
	$(BIN)/registry-grants crds --output-dir crds
	cp crds/*.yaml $(CHART)/files/crds/
	$(BIN)/registry-grants crds --reference >docs/reference/api.md

# Everything that the accounts of examples/article.yaml need; the demo and the tests set theirs up with these.
OPERATOR_ROLE := arn:aws:iam::333333333333:role/registry-grants-operator
IAM_POLICY = $(BIN)/registry-grants iam-policy --operator-role-arn $(OPERATOR_ROLE) --external-id registry-grants-example
management-roles: build ## write the documents of the operator's roles in examples/management-roles anew
	$(IAM_POLICY) --account registry --account-id 111111111111 --output-dir examples/management-roles/registry
	$(IAM_POLICY) --account consumer --account-id 222222222222 --output-dir examples/management-roles/consumer
	$(IAM_POLICY) --document operator >examples/management-roles/operator.json

metrics-reference: ## write docs/reference/metrics.md anew
	WRITE_REFERENCE=1 cargo test --locked --test generated metrics_reference_is_up_to_date

chart: $(patsubst %,chart/%,$(wildcard $(CHART)/ci/*-values.yaml)) rules ## lint and render the chart, check its reference, rules and dashboard
	python3 charts/generate-docs.py --check

chart/%:
	$(HELM) lint --strict --quiet $(CHART) --values $*
	$(HELM) template registry-grants $(CHART) --namespace registry-grants --values $* >/dev/null

rules: ## the alerts fire when they should; the dashboard's queries can be read
	$(PROMTOOL) check rules --lint=all --lint-fatal $(CHART)/files/prometheus-rules.yaml
	$(PROMTOOL) test rules tests/chart/rules_test.yaml
	tests/chart/dashboard-rules $(CHART)/files/dashboard.json | $(PROMTOOL) check rules --lint=all --lint-fatal

lint-policies: build ## let independent linters read the generated IAM policies and templates
	@$(LINTERS) tools/lint-policies $(BIN)/registry-grants

# Not part of `test`, for it needs Node, which nothing else does.
verify-policies: ## let an independent simulator decide the same requests as our evaluation of policies (needs Node)
	@simulator=$$(tools/install simulator) && REGISTRY_GRANTS_SIMULATOR=$${simulator#*=} \
		cargo test --locked --test verify_policies -- --include-ignored --nocapture

emulation-check: ## what the AWS emulation allows and refuses
	$(PYTHON) tests/support/aws/selfcheck.py

bench: build ## count what grants cost, time the policy code, fail over the limits; writes target/bench/*.json
	@$(BIN)/bench
	cargo bench --locked --bench policy
	@$(BIN)/bench times

tools: ## build the control plane, Helm, crane and the emulation, where they are missing
	tools/install

e2e: build ## a whole cluster: a real kubelet pulls across accounts, the operator runs in its Pod (Linux and root; or CLUSTER=kind)
	cargo build --release --locked --package registry-grants --bin registry-grants
	@$(E2E) $(BIN)/e2e $(if $(filter kind,$(CLUSTER)),--kind) $(if $(REPLICAS),--replicas $(REPLICAS))

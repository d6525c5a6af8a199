# Two commands matter: `make run` and `make test`. Both set up everything they need.
PYTHON ?= python3
BIN := .venv/bin
UV := 0.13.9
# On a busy machine the threads of linear algebra wait for one another, a hundred times as long.
ONE := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# Where Python is told to keep no compiled code, each process that a test starts would compile us.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run test test-large torch test-torch ready weights check clients lock clean \
  bench-left bench-live bench-right bench-chips bench-video

# The main job: real local models answer three real questions as one mind.
run: .venv/.run
	@$(BIN)/bicameral pull smollm2-135m qwen2.5-coder-1.5b
	@for q in "What is the capital of Japan?" \
	          "What is 17 + 5 - 8?" \
	          "请用一句话介绍北京。"; do \
	  printf '\n\033[1m%s\033[0m\n' "$$q"; \
	  $(BIN)/bicameral ask "$$q" --explain --temperature 0 --max-tokens 300 || exit 1; \
	done
	@echo; $(BIN)/bicameral ledger report --by member

# A worker that is done takes tests from the other one: the longest files have the fewest tests.
WORKERS ?= 3
SHARED = -n $(WORKERS) --dist worksteal

# Everything but the tests that want the 1.1 GB model; those run where it has been pulled.
test:
	@$(MAKE) --no-print-directory --jobs 8 ready
	$(ONE) BICAMERAL_REQUIRE_CLIENTS=1 $(BIN)/pytest $(SHARED)
	@$(MAKE) --no-print-directory test-torch

# Most of installing is waiting for the network, so make this with several jobs.
ready: .venv/.dev clients weights .venv-torch/.installed

weights: .venv/.dev
	@$(BIN)/bicameral pull smollm2-135m efficientnet-lite0 blazeface-back whisper-base

test-large: .venv/.dev
	@$(BIN)/bicameral pull smollm2-135m qwen2.5-coder-1.5b
	$(BIN)/pytest -m large

# torch takes 1.2 GB, so the tests that want it have an environment of their own.
TORCH := .venv-torch/bin
torch: .venv-torch/.installed

# Unlike pip, uv does not look by itself where PIP_FIND_LINKS says; there may be a build for the CPU.
LINKS := $(addprefix --find-links=,$(wildcard $(PIP_FIND_LINKS)))
.venv-torch/.installed: requirements/torch.txt pyproject.toml | .venv/bin/uv
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-torch
	$(BIN)/uv pip install --quiet --python $(TORCH)/python $(LINKS) -r requirements/torch.txt -e .
	@touch $@

WITH_TORCH := $(wildcard tests/engines/hf tests/engines/test_transformers.py tests/engines/vdt \
  tests/vdt_cli tests/engines/test_contract.py)
test-torch: .venv-torch/.installed
	$(ONE) $(TORCH)/pytest $(SHARED) -k 'hf or transformers or vdt' $(WITH_TORCH)

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# On recorded answers of real models, in the folder that BICAMERAL_DATA names; calls nobody.
bench-left: .venv/.dev
	$(BIN)/python bench/left.py

# Its questions come from reasoning-gym, which nothing else needs.
bench-live: .venv/.dev
	$(BIN)/uv pip install --quiet reasoning-gym==0.1.25
	@$(BIN)/bicameral pull smollm2-135m qwen2.5-coder-1.5b gemma-3-270m
	$(BIN)/python bench/live.py

# Beside rivals, which have an environment of their own: five gigabytes, most of it torch's.
RIVALS := torch==2.15.0 snntorch==1.0.0 spikingjelly==2.0.0 norse==1.1.0 sinabs==3.1.3 pbr \
  iceoryx2 pyzmq ray
RIGHT := data_path soak_callosum spiking_conformance spiking gates split pictures reading hearing
bench-right: .venv/.dev
	@$(BIN)/bicameral pull smollm2-135m qwen2.5-coder-1.5b efficientnet-lite0 blazeface-back \
	  whisper-base
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .bench/right
	$(BIN)/uv pip install --quiet --python .bench/right -r requirements/dev.txt
	$(BIN)/uv pip install --quiet --python .bench/right $(filter-out sinabs%,$(RIVALS))
	$(BIN)/uv pip install --quiet --python .bench/right --no-deps $(filter sinabs%,$(RIVALS)) -e .
	for part in $(RIGHT); do $(ONE) .bench/right/bin/python bench/$$part.py; done

# Forecasts against published measurements, in the folder that BICAMERAL_DATA names; then a plan for
# a thousand nodes, members on Ray, and a bake-off of what runs here.
bench-chips: .venv/.dev
	@$(BIN)/bicameral pull smollm2-135m
	for part in chips planning cluster; do $(BIN)/python bench/$$part.py || exit 1; done
	$(BIN)/python bench/bakeoff.py --out .bench/bakeoff

# What a trained net is worth on all seven tasks, beside floors; ablations on small nets; how fast; and
# what surprises it. Moving MNIST too, for a net that MNIST_MODEL names and digits in BICAMERAL_DATA.
bench-video: .venv-torch/.installed
	$(ONE) $(TORCH)/python bench/video.py $(if $(MNIST_MODEL),--mnist-model $(MNIST_MODEL))
	$(ONE) $(TORCH)/python bench/video_surprise.py

# bench-gateway · bench-local · bench-cancel · bench-confidence · bench-embed · bench-embedded ·
# bench-ledger · bench-settlement
bench-%: .venv/.dev
	@$(BIN)/bicameral pull smollm2-135m qwen2.5-coder-1.5b
	$(BIN)/python bench/$*.py

.venv/bin/uv:
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "python3 lacks venv: run 'apt-get install python3-venv' first" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV)

.venv/.run: requirements/run.txt pyproject.toml | .venv/bin/uv
	$(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements/run.txt
	$(BIN)/uv pip install --quiet --no-deps -e .
	@touch $@

.venv/.dev: requirements/dev.txt pyproject.toml | .venv/bin/uv
	$(BIN)/uv pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install --quiet --no-deps -e .
	@touch $@ .venv/.run

# The clients of the acceptance tests; those whose pins would quarrel have their own environments.
CLIENTS := $(foreach name,langchain llm aider,.venv-clients/$(name)/.installed)
NODE := tests/clients/node/node_modules/.package-lock.json

clients: $(CLIENTS) $(NODE)

.venv-clients/%/.installed: tests/clients/requirements-%.txt | .venv/bin/uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-clients/$*
	$(BIN)/uv pip install --quiet --python .venv-clients/$*/bin/python --only-binary :all: \
	  --require-hashes --no-deps -r $<
	@touch $@

$(NODE): tests/clients/node/package-lock.json
	cd tests/clients/node && npm ci --silent --no-audit --no-fund
	@touch $@

# Pins every dependency by hash, for make run and for make test (all extras but transformers').
EXTRAS := check cluster embed embed-fast hear hub learn llama postgres see spiking telemetry watch
lock: .venv/bin/uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
	  --extra llama --extra embed --extra embed-fast --extra see pyproject.toml -o requirements/run.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
	  $(EXTRAS:%=--extra %) --group dev pyproject.toml -o requirements/dev.txt

clean:
	rm -rf .venv .venv-clients .venv-torch .bench tests/clients/node/node_modules

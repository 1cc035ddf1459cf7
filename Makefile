# Every target is one `kit` command in an environment that make keeps current. `make help` lists them.

PYTHON ?= python3
VENV   ?= .venv
# Not bin/kit and bin/pip: where the checkout's path has a space, such a script hands the path to a shell.
KIT     = $(VENV)/bin/python -m challenges
PIP     = $(VENV)/bin/python -m pip --disable-pip-version-check

# Where torch's wheel comes from: left empty, the package index (on Linux a CUDA build); on a machine without a GPU the
# index of CPU wheels that pytorch.org lists saves some 4 GB: make challenge1 TORCH_INDEX=<that address>. Wheels of a third
# index are refused until `make lock TORCH_INDEX=<its address>` has written their hashes.
TORCH_INDEX ?=
# Parallel test processes
JOBS ?= auto

# Everything at the one version and with the hashes of locked/, so that pip has nothing to choose, and the kit itself
# built by the locked setuptools.
INSTALL = $(PIP) install -q --require-hashes --no-deps --no-build-isolation --no-compile
# pip would compile one file after another. What no walk imports is compiled when something first does, and a file that
# is none of this Python's is passed over.
SELDOM = pip|setuptools|fontTools|pygments|libcst|huggingface_hub|dask|distributed|torch/(testing|_inductor)|modelopt/torch
COMPILE = $(VENV)/bin/python -m compileall -qq -j 0 -x '/tests?/|/site-packages/($(SELDOM))/' $(VENV)/lib || true
EDITABLE = $(PIP) install -q --no-deps --no-build-isolation -e .
# Names are data: neither make nor a shell reads what is in them. ARGS alone is a piece of the command line.
override DATA := $(value DATA)
override RECIPE := $(value RECIPE)
override MODEL := $(value MODEL)
override TORCH_INDEX := $(value TORCH_INDEX)
GPUS_GIVEN := $(filter command,$(origin GPUS))
override GPUS := $(value GPUS)
override MINUTES := $(value MINUTES)
override LIKE := $(value LIKE)
override QUICK := $(value QUICK)
override RECORDS := $(value RECORDS)
override PRICES := $(value PRICES)
override GOAL := $(value GOAL)
override OUTPUT := $(value OUTPUT)
override UPDATE := $(value UPDATE)
override INSTANCE := $(value INSTANCE)
override MAX_USD := $(value MAX_USD)
override MAX_HOURS := $(value MAX_HOURS)
override CAPACITY_BLOCK := $(value CAPACITY_BLOCK)
override DISK := $(value DISK)
override REGION := $(value REGION)
override NAME := $(value NAME)
export DATA RECIPE TORCH_INDEX GPUS MINUTES LIKE RECORDS PRICES GOAL OUTPUT UPDATE
export INSTANCE MAX_USD MAX_HOURS DISK CAPACITY_BLOCK REGION NAME
quoted = '$(subst ','\'',$(1))'
WALK   = $(if $(DATA),--data="$$DATA") $(if $(RECIPE),--recipe="$$RECIPE") $(ARGS)

# The models of each challenge; MODEL= narrows challenge 3 down to one of them.
MODELS_1 := resnet50
MODELS_2 := ssd300
MODELS_3 := ncf vae_cf bert4rec dlrm wide_and_deep
models = $(or $(MODEL),$(MODELS_$(1)))

.PHONY: aws-challenge1 aws-challenge2 aws-challenge3 aws-benchmark
.PHONY: help challenge1 challenge2 challenge3 demo torchrec list doctor benchmark compare speed docs triton prove-gpu check test lock messages clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "variables: DATA=folder of your own or a data set's name  RECIPE=name  ARGS='--training.epochs 5 ...'  CONTAINER=1  (recipes: make list)"

ifneq ($(CONTAINER),1)
challenge1: ## ResNet-50 on photographs, from data to a served model [DATA= RECIPE= ARGS=]
challenge2: ## SSD300 on images with boxes, from data to a served model [DATA= RECIPE= ARGS=]
challenge3: ## recommenders on histories and click logs, from data to served models [MODEL= DATA= RECIPE= ARGS=]
challenge1 challenge2 challenge3: challenge%: $(VENV)/ready .triton/payload.json $(if $(filter s3://%,$(DATA)),$(VENV)/ready-aws)
	@$(KIT) challenge $(foreach model,$(call models,$*),$(call quoted,$(model))) $(WALK)

benchmark: $(VENV)/ready ## measure every model, and say what limits each [MODEL= GPUS=1,2 MINUTES=15 LIKE= QUICK=1]
	@$(KIT) benchmark $(foreach model,$(MODEL),$(call quoted,$(model))) $(if $(DATA),--data="$$DATA") \
	  $(if $(RECIPE),--recipe="$$RECIPE") $(MEASURE)
endif

MEASURE = $(if $(GPUS),--gpus="$$GPUS") $(if $(MINUTES),--minutes="$$MINUTES") $(if $(LIKE),--like="$$LIKE") \
	$(if $(QUICK),--quick) $(ARGS)

RENT = --instance="$$INSTANCE" $(if $(DATA),--data="$$DATA") $(if $(RECIPE),--recipe="$$RECIPE") \
	$(if $(MODEL),--model=$(call quoted,$(MODEL))) $(if $(ARGS),--make-args=$(call quoted,$(ARGS))) \
	$(if $(GPUS),--gpus="$$GPUS") $(if $(MINUTES),--minutes="$$MINUTES") $(if $(LIKE),--like="$$LIKE") \
	$(if $(QUICK),--quick) $(if $(MAX_USD),--max-usd="$$MAX_USD") $(if $(MAX_HOURS),--max-hours="$$MAX_HOURS") $(if $(NAME),--name="$$NAME") \
	$(if $(DISK),--disk="$$DISK") $(if $(CAPACITY_BLOCK),--capacity-block="$$CAPACITY_BLOCK") $(if $(REGION),--region="$$REGION") \
	$(if $(PRICES),--prices="$$PRICES") $(if $(SPOT),--spot) $(if $(DETACH),--detach) $(if $(DRY_RUN),--dry-run) $(if $(YES),--yes)
aws-challenge1: ## challenge 1 on a rented GPU, its price asked for first [INSTANCE= DATA= SPOT=1 MAX_USD=10 MAX_HOURS=6 DETACH=1 DRY_RUN=1]
aws-challenge2: ## challenge 2 alike; docs/aws.md has them all
aws-challenge3: ## challenge 3 alike [MODEL=]
aws-benchmark: ## make benchmark there, its records brought here [INSTANCE= MODEL= GPUS= MINUTES=15 SPOT=1 MAX_USD=10 DRY_RUN=1]
aws-challenge1 aws-challenge2 aws-challenge3 aws-benchmark: aws-%: $(VENV)/ready-aws
	@$(KIT) aws run $* $(RENT)

demo: $(VENV)/ready-demo ## try the newest run of each model in the browser [ARGS='RUN ... --port 0']
	@$(KIT) demo $(ARGS)

torchrec: $(VENV)/ready-clicks ## install TorchRec, for --tables.shard auto, table or column

list: $(VENV)/ready ## list models and recipes with their targets
	@$(KIT) list

doctor: $(VENV)/ready ## show what this machine can run, and what stands in the way
	@$(KIT) doctor

triton: .triton/payload.json ## unpack a Triton server for tests on this machine, never for production

prove-gpu: $(VENV)/ready-dev ## what only a GPU shows, in ten minutes: records and a page of verdicts [ARGS='PART ...']
	@PYTHON=$(VENV)/bin/python bash benchmarks/proof/prove_gpu.sh $(ARGS)

compare: $(VENV)/ready ## what machines reach, cost and lose, as one page [RECORDS= PRICES= GOAL='resnet50 90 epochs' OUTPUT=comparison]
	@$(VENV)/bin/python -m benchmarks.compare $(if $(RECORDS),"$$RECORDS") --output="$${OUTPUT:-comparison}" \
	  $(if $(GOAL),--goal="$$GOAL") $(if $(PRICES),--prices="$$PRICES") $(ARGS)

speed: $(VENV)/ready-dev ## instructions of the hot paths, against those committed [UPDATE='what made them change']
	@$(VENV)/bin/python -m benchmarks.watch.speed $(if $(UPDATE),--update="$$UPDATE") $(ARGS)

docs: $(VENV)/ready-docs ## the student's handbook in Spanish and English, as a site to read offline [ARGS='--output DIR']
	@$(VENV)/bin/python -m docs.site.build $(ARGS)

check: $(VENV)/ready-dev ## format, lint, types and fast tests: minutes, no GPU
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/python -m mypy
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(JOBS) --dist worksteal -m "not slow and not serving and not gpu"

test: $(VENV)/ready-dev .triton/payload.json ## every test that runs on this machine
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(JOBS) --dist worksteal

lock: $(VENV)/ready-dev ## write locked/ anew after a change of pyproject.toml [UPGRADE=1 TORCH_INDEX=]
	@$(VENV)/bin/python locked/lock.py $(if $(UPGRADE),--upgrade) $(if $(TORCH_INDEX),--torch-index="$$TORCH_INDEX")

messages: $(VENV)/ready-dev ## find what pages say, and what lacks its translation in common/language
	@$(VENV)/bin/python -m common.language.catalogue

clean: ## remove the environment and caches; runs and data stay, and a VENV= that was there before
	rm -rf $(if $(wildcard $(VENV)/made)$(filter .venv,$(VENV)),$(call quoted,$(VENV))) .triton .pytest_cache .mypy_cache .ruff_cache build *.egg-info

include containers/container.mk

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $(VENV)/made

# A CPU build of torch says in its metadata that it needs no library of CUDA's.
NEEDS_CUDA = from importlib.metadata import requires; exit(not any(line.startswith("nvidia-") for line in requires("torch")))
# Where pip is set up to find a CPU build without being told an index, that one is taken.
CPU_TORCH = $(shell grep -o '^torch==[^ ]*+cpu' locked/torch-cpu.txt)
$(VENV)/torch: locked/torch.txt locked/torch-cpu.txt locked/cuda.txt
	@if [ -n "$$TORCH_INDEX" ]; then set -- --index-url="$$TORCH_INDEX" -r locked/torch-cpu.txt; \
	elif $(PIP) install -q --dry-run --no-deps '$(CPU_TORCH)' 2> /dev/null; then set -- -r locked/torch-cpu.txt; \
	else set -- -r locked/torch.txt; fi; echo $(INSTALL) "$$@"; $(INSTALL) "$$@"
	if $(VENV)/bin/python -c '$(NEEDS_CUDA)'; then $(INSTALL) -r locked/cuda.txt; fi
	@touch $@
$(VENV)/packages: locked/kit.txt
	$(INSTALL) -r $<
	@touch $@

# TensorRT where a GPU is visible: without it models are served from the CPU there. Its build fetches the library from
# NVIDIA's index, for which pip makes an environment of its own; where that is out of reach all else goes on.
VISIBLE_GPU := $(firstword $(wildcard /dev/nvidia[0-9]* /usr/lib/wsl/lib/libcuda.so.1))
TENSORRT = echo "$(VISIBLE_GPU) is visible: TensorRT is installed, too."; \
	$(PIP) install -q --require-hashes --no-deps -r locked/gpu.txt || \
	echo "TensorRT is left out, and models are served from the CPU: see above, and make doctor."
LOCKED = $(addprefix locked/,build.txt torch.txt torch-cpu.txt cuda.txt kit.txt)
# Torch and all else at once, of which pip unpacks one file after another.
$(VENV)/ready: pyproject.toml $(LOCKED) | $(VENV)/bin/python
	$(INSTALL) -r locked/build.txt
	@$(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j2) $(VENV)/torch $(VENV)/packages
	$(EDITABLE)
	@$(if $(VISIBLE_GPU),$(TENSORRT))
	@$(COMPILE)
	@touch $@

# What most never need comes when it is first asked for; the tests need all of it.
$(VENV)/ready-dev: | $(VENV)/ready-aws $(VENV)/ready-clicks $(VENV)/ready-demo $(VENV)/ready-docs
$(VENV)/ready-aws $(VENV)/ready-demo $(VENV)/ready-docs $(VENV)/ready-dev: $(VENV)/ready-%: locked/%.txt $(VENV)/ready
	$(INSTALL) -r $<
	@$(COMPILE)
	@touch $@
$(VENV)/ready-clicks: locked/clicks.txt locked/fbgemm-cpu.txt locked/fbgemm-cuda.txt $(VENV)/ready
	@if $(VENV)/bin/python -c '$(NEEDS_CUDA)'; then build=cuda; else build=cpu; fi; \
	  set -- -r locked/clicks.txt -r locked/fbgemm-$$build.txt; echo $(INSTALL) "$$@"; $(INSTALL) "$$@"
	@$(COMPILE)
	@touch $@

# A machine that cannot run the server (not Linux on x86-64) goes on without it and is told so.
.triton/payload.json: common/serving/payload.py | $(VENV)/ready
	@$(VENV)/bin/python -m common.serving.payload || echo "Triton is left out: see above."

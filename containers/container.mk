# Included by the Makefile: images, and the same commands inside them. Needs Docker and, for GPUs, NVIDIA's container toolkit.
#   make container1                          challenge 1's training and serving image (2 and 3 alike)
#   make challenge1 CONTAINER=1 DATA=photos  the whole challenge inside the training image; make benchmark CONTAINER=1 alike
#   make up1 MODELS=runs/…/serving           server and metrics;  make down stops them
include containers/versions.env

ENGINE ?= docker
# Of a training container; left empty, no limit: nine tenths of the machine, so that a run is stopped and not the machine
MEMORY ?= $(shell awk '/^MemTotal:/ {printf "%dm", $$2 * 0.9 / 1024}' /proc/meminfo 2> /dev/null)
# Of a container: all where GPUS is not given, none where it is given empty
CONTAINER_GPUS = $(if $(GPUS),--gpus $(GPUS),$(if $(GPUS_GIVEN),,--gpus all))
SHM ?= 8g
KIT_VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
COMMIT := $(shell git rev-parse --verify -q HEAD 2>/dev/null)
CHALLENGE_NAME_1 := classification
CHALLENGE_NAME_2 := detection
CHALLENGE_NAME_3 := recommendation
container_image = challenge-kit/$(1)-$(CHALLENGE_NAME_$(2)):$(KIT_VERSION)
container_build = $(ENGINE) build -f containers/$(1).Dockerfile -t $(call container_image,$(1),$(2)) $(3) \
	--build-arg CHALLENGE=$(CHALLENGE_NAME_$(2)) --build-arg COMMIT=$(COMMIT) .

.PHONY: container1 container2 container3 trainer1 trainer2 trainer3 up1 up2 up3 down pin
pin: ## name the images of containers/versions.env by their digests of today
	@python3 containers/versions.py --pin

container1: ## build challenge 1's training and serving images (container2, container3 alike)
container1 container2 container3: container%: trainer%
	python3 containers/versions.py $(TRITON_IMAGE)
	$(call container_build,serve,$*,--build-arg TRITON_IMAGE=$(TRITON_IMAGE))

# Who only trains does not pull the serving image of many GB.
trainer1: ## build challenge 1's training image alone (trainer2, trainer3 alike)
trainer1 trainer2 trainer3: trainer%:
	python3 containers/versions.py $(PYTORCH_IMAGE)
	$(call container_build,train,$*,--build-arg PYTORCH_IMAGE=$(PYTORCH_IMAGE))

override MODELS := $(value MODELS)
override MOUNTS := $(value MOUNTS)
export MODELS MOUNTS
container_compose = CHALLENGE=$(CHALLENGE_NAME_$(1)) KIT_VERSION=$(KIT_VERSION) MODELS="$$(CDPATH= cd -- "$$MODELS" && pwd)" \
	$(ENGINE) compose --env-file containers/versions.env -f containers/compose.yaml
up1: ## serve a run's models with metrics in containers, MODELS=runs/…/serving (up2, up3 alike)
up1 up2 up3: up%:
	@test -d "$$MODELS" || { printf '%s\n' "MODELS=$$MODELS is no folder. Give a run's serving folder: make up$* MODELS=runs/…/serving"; exit 2; }
	$(call container_compose,$*) up --detach --wait serve front metrics
down: override MODELS := .
down: ## stop what up1 started
	$(call container_compose,1) down

# The same command inside the image. DATA and every folder of MOUNTS are visible under their own names, read-only; runs/ is
# the one place that is written, and its files belong to whoever types the command. MOUNTS are quoted as in a shell.
ifeq ($(CONTAINER),1)
.PHONY: challenge1 challenge2 challenge3 benchmark
challenge1 challenge2 challenge3: challenge%: trainer%
	mkdir -p runs
	$(foreach model,$(call models,$*),$(call container_run,$*,$(CONTAINER_GPUS)) challenge $(call quoted,$(model)) $(ARGS) &&) true

# GPUS tells the processes to measure with; the container sees every GPU.
benchmark: trainer1
	mkdir -p runs
	$(call container_run,1,--gpus all) benchmark $(foreach model,$(MODEL),$(call quoted,$(model))) $(if $(QUICK),,--output=runs/benchmark/results) $(MEASURE)

# 1: the challenge's number, 2: the option that shows it GPUS
container_run = python3 -m containers.mounted $(ENGINE) run --rm --init $(2) --shm-size $(SHM) --ulimit memlock=-1 --ulimit stack=67108864 \
	$(if $(MEMORY),--memory $(MEMORY) --memory-swap $(MEMORY)) --pids-limit 4096 --log-opt max-size=10m --log-opt max-file=5 \
	--user "$$(id -u):$$(id -g)" --read-only --tmpfs /tmp:exec,mode=1777 --cap-drop ALL \
	--security-opt no-new-privileges $(call container_image,train,$(1)) kit
endif

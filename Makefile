# make demo | test | test-fast | lint | docs | bench | bench-gpu | train-nano | claims: each sets up what it needs in .venv.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
INPUT ?=
OUTPUT ?= output/demo
SYNTHCROWD := output/synthcrowd

.PHONY: demo test test-fast lint format docs bench bench-gpu train-nano claims clean

demo: $(READY)
	$(RUN) run_bmp.py --config lite.py --input $(or $(INPUT),docs/images/grace_hopper.jpg) --output $(OUTPUT) --overwrite --trace
	$(if $(INPUT),,$(RUN) run_bmp.py --config nano.py --set dataset.count=40 --output $(OUTPUT)-crowd --overwrite)
	$(if $(INPUT),,$(RUN) -m bmp.synthcrowd --splits video-val --count 1 --film --output $(OUTPUT)-drawn --overwrite)
	$(if $(INPUT),,$(RUN) run_bmp.py --config nano.py --input $(OUTPUT)-drawn/video-val/000000.mp4 --end 16 --output $(OUTPUT)-film --overwrite)
	$(if $(INPUT),,$(RUN) benchmarks/score_video.py $(OUTPUT)-film/people.jsonl $(OUTPUT)-drawn/video-val/000000.jsonl)

# WORKERS: how many processes share the tests; each takes a core and up to 3 GB of memory.
WORKERS ?= 2
# Compiled tests are kept, also where the environment says otherwise: compiling all of them takes a third of test-fast.
TEST := PYTHONDONTWRITEBYTECODE= $(RUN) -m pytest --numprocesses $(WORKERS) --dist worksteal

test: $(READY)
	$(TEST)

test-fast: $(READY)
	$(TEST) -m "not slow"

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/codespell
	$(RUN) -m mypy

format: $(READY)
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

# The site, in output/site: it is complete, and every link inside it leads somewhere.
docs: $(READY)
	$(RUN) docs/site_builder.py

bench: $(READY)
	$(RUN) benchmarks/speed.py --config lite.py

# All that needs a CUDA device: its tests, and the paper's networks with made-up weights beside the published schedule,
# which has batches of one. Numbers are in benchmarks/results/gpu_PEOPLE_BATCH.json.
GPU_SPEED := $(RUN) benchmarks/speed.py --config bmp_v2.py --random-weights --device cuda --engines torch:float32 torch:bfloat16
bench-gpu: $(READY)
	$(RUN) -m pytest -m cuda -rs
	$(foreach people,1 5 20,$(foreach batch,1 8,$(GPU_SPEED) --people $(people) --batch-size $(batch) \
		--output benchmarks/results/gpu_$(people)_$(batch).json && )) true

# Continues after an interruption. Each process has one thread, since several threads round sums differently: so the same
# machine makes the same weights again. make -j2 train-nano trains detector and pose at the same time. The recipes are
# those that Table 1 of docs/ablations.md compares with the weights in the package.
TRAIN := OMP_NUM_THREADS=1 $(RUN) -m bmp.training
NANO := pipeline/bmp/checkpoints/nano
RECIPES := pose_mask_refine mask_refine pose1_mask_refine max_visibility max_spread
.PHONY: $(addprefix train-nano-,detector pose base samp keypoints segmenter $(RECIPES))

train-nano: train-nano-detector train-nano-pose train-nano-samp train-nano-segmenter $(RECIPES:%=train-nano-%)

train-nano-detector: $(SYNTHCROWD)/train.json $(SYNTHCROWD)/val.json
	$(TRAIN) train/rtmdet_ins_nano.py --resume --export $(NANO)/rtmdet-ins-nano.safetensors

train-nano-pose: $(SYNTHCROWD)/train.json $(SYNTHCROWD)/val.json
	$(TRAIN) train/pmpose_nano.py --resume --export $(NANO)/pmpose-nano.safetensors

train-nano-base: $(SYNTHCROWD)/train.json $(SYNTHCROWD)/val.json
	$(TRAIN) train/sam_nano_encoder.py --resume --export output/nano/sam2-nano-parts.safetensors
	$(TRAIN) train/sam_nano_encoder_people.py --resume --export output/nano/sam2-nano-encoder.safetensors
	$(TRAIN) train/sam_nano_base.py --resume --export output/nano/sam2-nano-base.safetensors
	$(TRAIN) train/sam_nano.py --resume --export $(NANO)/sam2-nano.safetensors

# The heads on the encoder's features, of nano_samp.py and nano_one.py.
train-nano-samp: train-nano-base
	$(TRAIN) train/samp_nano.py --resume --export $(NANO)/samp-nano.safetensors
	$(TRAIN) train/people_head_nano.py --resume --export $(NANO)/people-head-nano.safetensors

train-nano-keypoints: train-nano-pose
	for split in train val; do $(RUN) -m bmp.inference.keypoints --config nano.py --dataset $(SYNTHCROWD)/$$split.json \
		--images $(SYNTHCROWD) --output $(SYNTHCROWD)/keypoints/$$split.json --masks --resume || exit 1; done

train-nano-segmenter: train-nano-base train-nano-keypoints
	$(TRAIN) train/sam_pose2seg_nano.py --resume --export $(NANO)/sam-pose2seg-nano.safetensors

$(RECIPES:%=train-nano-%): train-nano-%: train-nano-base train-nano-keypoints
	$(TRAIN) train/sam_nano_$*.py --resume --export output/nano/$*.safetensors

# The papers' claims, tested: a day on one core, in pieces that are kept; call it again to go on. For what is left, in
# hours, or a part of it: $(RUN) benchmarks/claims.py --plan, --only CLAIM, --count SCENES.
CLAIMS := output/claims/synthcrowd

claims: $(CLAIMS)/keypoints/train.json $(CLAIMS)/keypoints/val.json
	OMP_NUM_THREADS=1 $(RUN) benchmarks/claims.py

$(CLAIMS)/keypoints/train.json $(CLAIMS)/keypoints/val.json: $(CLAIMS)/keypoints/%.json: $(CLAIMS)/%.json
	$(RUN) -m bmp.inference.keypoints --config nano.py --dataset $< --images $(CLAIMS) --output $@ --masks --resume

$(CLAIMS)/train.json $(CLAIMS)/val.json: $(CLAIMS)/%.json: | $(READY)
	$(RUN) -m bmp.synthcrowd --output $(CLAIMS) --splits $* --count $(if $(filter train,$*),2000,200) --extras --overwrite

# The JSON file is written last; images without it come from an interrupted run.
$(SYNTHCROWD)/%.json: | $(READY)
	$(RUN) -m bmp.synthcrowd --output $(SYNTHCROWD) --splits $* --extras --overwrite

clean:
	rm -rf $(VENV) output .mypy_cache .ruff_cache .pytest_cache

# The stamp is written last, so an installation that was interrupted is done again.
$(READY): requirements.txt pyproject.toml $(shell find third_party -name '*.py' -o -name pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "make: Python 3.10 to 3.13 is needed, $$($(PYTHON) --version) found; try make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	SAM2_BUILD_CUDA=0 $(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

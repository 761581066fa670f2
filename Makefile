# make demo | test | test-fast | lint | bench | train-nano: each sets up what it needs in .venv.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
INPUT ?=
OUTPUT ?= output/demo
SYNTHCROWD := output/synthcrowd

.PHONY: demo test test-fast lint format bench train-nano train-nano-detector train-nano-pose clean

demo: $(READY)
	$(RUN) run_bmp.py --config lite.py --input $(or $(INPUT),"$$($(RUN) -c 'from matplotlib import cbook; print(cbook._get_data_path("sample_data/grace_hopper.jpg"))')") --output $(OUTPUT) --overwrite --trace

test: $(READY)
	$(RUN) -m pytest

test-fast: $(READY)
	$(RUN) -m pytest -m "not slow"

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(READY)
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

bench: $(READY)
	$(RUN) benchmarks/speed.py --config lite.py

# Goes on where it was interrupted. One thread for each of the two, since sums of several threads are rounded otherwise:
# the same machine makes the same weights again. make -j2 train-nano trains both at once.
train-nano: train-nano-detector train-nano-pose

train-nano-detector: $(SYNTHCROWD)/train.json $(SYNTHCROWD)/val.json
	OMP_NUM_THREADS=1 $(RUN) -m bmp.train train/rtmdet_ins_nano.py --resume --export pipeline/bmp/nano/rtmdet-ins-nano.safetensors

train-nano-pose: $(SYNTHCROWD)/train.json $(SYNTHCROWD)/val.json
	OMP_NUM_THREADS=1 $(RUN) -m bmp.train train/pmpose_nano.py --resume --export pipeline/bmp/nano/pmpose-nano.safetensors

# The JSON file comes last; images without one are what an interruption left.
$(SYNTHCROWD)/%.json: | $(READY)
	$(RUN) -m bmp.datasets.synthcrowd --output $(SYNTHCROWD) --splits $* --overwrite

clean:
	rm -rf $(VENV) output .mypy_cache .ruff_cache .pytest_cache

# The stamp is written last, so an installation that was interrupted is done again.
$(READY): requirements.txt pyproject.toml $(shell find third_party -name '*.py' -o -name pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "make: Python 3.10 to 3.13 is needed, $$($(PYTHON) --version) found; try make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	SAM2_BUILD_CUDA=0 $(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

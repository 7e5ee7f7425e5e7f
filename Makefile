# One command each: make demo, make test, make check. The virtual environment is made if there is none.
# Paths are relative on purpose: the checkout may lie in a folder with spaces.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check
DATA ?= data

.PHONY: help demo test torture check format results tables pictures bench bench-full bench-gpu clean

help:
	@echo "make demo       pretrain and finetune a long-document classifier on text that the install brings (minutes)"
	@echo "make test       run the tests"
	@echo "make torture    kill, stop and starve runs in many places (20 minutes on 2 quiet cores; ARGS=--help shows how to do less)"
	@echo "make check      format, lint, types"
	@echo "make format     let ruff format the code"
	@echo "make results DATA=FOLDER   measure on the data sets in FOLDER (hours, in the background; goes on where it stopped)"
	@echo "make tables DATA=FOLDER    measure the poolings and the ways of freezing on movie_reviews in FOLDER (half an hour)"
	@echo "make pictures   take the pictures of docs/images anew, of the demo run (RUN_NAME=name: of another)"
	@echo "make bench      measure speed beside Hugging Face, small sizes (under 20 minutes on 2 quiet cores)"
	@echo "make bench-full the same at full size, for docs/performance.md (hours; goes on where it stopped)"
	@echo "make bench-gpu  the same on a GPU"
	@echo "make clean      remove the virtual environment and caches; runs and stores stay"

$(VENV)/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.txt
	$(PIP) --no-deps --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	$(PIP) -r requirements-dev.txt
	@touch $@

demo: $(VENV)/installed
	$(RUN) experiments/demo.py

test: $(VENV)/installed-dev
	$(RUN) -m pytest -n auto -m "not slow"

torture: $(VENV)/installed-dev
	PYTHONPATH=tests $(RUN) -m torture $(ARGS)

check: $(VENV)/installed-dev
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

format: $(VENV)/installed-dev
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

results: $(VENV)/installed
	$(RUN) -m benchmarks.results --data "$(DATA)"

pictures: $(VENV)/installed-dev
	PYTHONPATH=tests $(RUN) -m browser.pictures $(RUN_NAME)

tables: $(VENV)/installed
	$(RUN) -m benchmarks.poolings_and_freezing --data "$(DATA)"

bench: $(VENV)/installed-dev
	$(RUN) -m benchmarks small

bench-full: $(VENV)/installed-dev
	$(RUN) -m benchmarks full
	$(RUN) -m benchmarks page

bench-gpu: $(VENV)/installed-dev
	$(RUN) -m benchmarks gpu

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build

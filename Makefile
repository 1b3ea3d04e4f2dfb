# Everything goes into .venv; nothing outside it but the cached wheel of the operators (see tools/misc/install.py).
SHELL := /bin/bash
VENV := .venv
RUN := $(VENV)/bin/python
PYTEST_ARGS ?=
SITE ?= build/docs
# The first Python on PATH that is supported and really runs; else any python3, which the installer refuses with a reason.
PYTHON ?= $(shell for p in python3.12 python3.11 python3.10 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1 && echo $$p && exit; \
	done; echo python3)

INSTALL = py="$(PYTHON)"; "$$py" -c 'import sys; sys.exit(sys.version_info < (3, 8))' >/dev/null 2>&1 || \
	{ echo "make install: '$$py' is no Python that runs and is new enough; install Python 3.10 to 3.12, or name one:" \
	"make install PYTHON=/path/to/python3.11" >&2; exit 1; }; "$$py" tools/misc/install.py

.DEFAULT_GOAL := help
.PHONY: help install wheels test lint docs browser attack formats demo clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## */  make \1\t/p' Makefile | expand -t 18
	@echo '  PYTHON=python3.11 chooses the Python of .venv; PYTEST_ARGS="-k fusion" goes to pytest.'

install:  ## make .venv with torch, the operators and this package (once; a few minutes on two cores)
	@$(INSTALL) $(if $(OFFLINE),--offline) $(if $(WHEELS),--wheels "$(WHEELS)")

wheels:  ## install, and fill the folder WHEELS for machines without a network: make install OFFLINE=1 WHEELS=DIR
	@[ -n "$(WHEELS)" ] || { echo "make wheels: name the folder: make wheels WHEELS=DIR" >&2; exit 1; }; \
	$(INSTALL) --save "$(WHEELS)"

# As many processes as cores, with one thread each; then the tests that compare times, with nothing beside them. pytest
# ends with 5 where PYTEST_ARGS selects nothing of a part. Coverage counts the package in all processes of the first part.
test: install lint browser  ## install if need be, then lint and the whole test suite; last, the coverage
	@export PYTHONUNBUFFERED=1; \
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n logical --maxprocesses 8 --dist loadscope --no-loadscope-reorder \
		--cov --cov-report= -m 'not timing' --durations=15 $(PYTEST_ARGS); beside=$$?; \
	$(RUN) -m pytest -m timing $(PYTEST_ARGS); alone=$$?; \
	$(RUN) -m coverage report --sort=cover --skip-covered 2>&1 | awk 'NR <= 22 || /^TOTAL/'; \
	for status in $$beside $$alone; do [ $$status -eq 0 ] || [ $$status -eq 5 ] || exit $$status; done; \
	[ $$beside$$alone != 55 ]

# From Debian's or Ubuntu's packages.
browser:  ## install chromium, which the report is tested in, where there is none and you are root
	@command -v chromium chromium-browser google-chrome google-chrome-stable >/dev/null || { [ "$$(id -u)" = 0 ] && \
		command -v apt-get >/dev/null && apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || \
		echo 'make test: no chromium here, so the tests of the report in a browser are skipped: install it' >&2

lint: install  ## ruff and codespell over the whole tree, mypy over the package
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m codespell_lib
	$(RUN) -m mypy

docs: install  ## the site, from the pages and docstrings, in build/docs/index.html; warnings are errors
	rm -rf docs/api
	$(RUN) -m sphinx -W --keep-going --quiet -E -c docs . $(SITE)

attack: install  ## all attacks in full, and a table of them in work_dirs/attack.md (docs/reliability.md)
	mkdir -p work_dirs
	ATTACK_SHARE=1 ATTACK_TABLE=work_dirs/attack.md $(RUN) -m pytest tests/attack $(PYTEST_ARGS)

# The libraries need other versions of OpenCV and Pillow than this package.
formats: install  ## import and export beside datumaro, labelme and label-studio-sdk, in an environment of their own
	[ -x $(VENV)/judge/bin/python ] || { $(RUN) -m venv $(VENV)/judge && \
		$(VENV)/judge/bin/pip install -q datumaro==1.13.* labelme==6.* label-studio-sdk==2.*; }
	MMPANOPTIC_FORMAT_JUDGE=$(CURDIR)/$(VENV)/judge/bin/python $(RUN) -m pytest tests/test_importers $(PYTEST_ARGS)

demo: install  ## dataset, training, PQ and pictures, all small: minutes without a GPU
	@$(RUN) tools/misc/demo.py

clean:  ## remove .venv and what the tools left behind, but neither data/ nor work_dirs/
	rm -rf $(VENV) build dist docs/api *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage
	find . -name __pycache__ -type d -not -path './data/*' -prune -exec rm -rf {} +

# One line a target over scripts/setup.py, which also runs without make: python3 scripts/setup.py help
PYTHON ?= python3

.PHONY: run test setup check bench help

run: ; @$(PYTHON) scripts/setup.py run $(ARGS)
test: ; @$(PYTHON) scripts/setup.py test $(ARGS)
setup: ; @$(PYTHON) scripts/setup.py setup
check: ; @$(PYTHON) scripts/setup.py check $(ARGS)
bench: ; @$(PYTHON) scripts/setup.py bench $(ARGS)
help: ; @$(PYTHON) scripts/setup.py help

# make example   set up, then run the whole method on the shipped object Spring
# make test      set up, then run every test
# make gpu-check set up, then what only a GPU can say: tests marked gpu, both benchmarks (8 minutes)
# make setup     the virtual environment alone
# make clean     remove what runs wrote (models, poses, results); the environment stays

PYTHON ?= python3
VENV ?= .venv
OBJECT ?= Spring
CONFIG ?= configs/MIP/$(OBJECT).txt
BIN = $(VENV)/bin

.PHONY: example test gpu-check setup clean

example: setup
	$(BIN)/python pose_estimation.py --config $(CONFIG) --class_name $(OBJECT)
	$(BIN)/python AUROC_TEST.py --obj $(OBJECT)

test: setup
	$(BIN)/python -m pytest $(PYTEST_ARGS)

gpu-check: setup
	PYTHON=$(abspath $(BIN))/python benchmarks/gpu_check.sh $(GPU_CHECK_FOLDER)

setup: $(VENV)/.complete

# The marker is written last: a set-up that was stopped starts again.
$(VENV)/.complete: requirements.txt submodules/pose_rasterizer/pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 10) else \
	"error: Python 3.10 or newer is needed, $(PYTHON) is %d.%d; name another with: make PYTHON=..." % v[:2])'
	@$(PYTHON) -m venv $(VENV) || { echo "error: no venv module; install it (Debian and Ubuntu: apt-get install python3-venv) and run make again" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

clean:
	rm -rf output ckpts Rckpts reflection AD_result

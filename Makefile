# Everything a developer runs. Each target that needs it does the set-up first (tools/setup.sh: only what is missing).
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-api clients install uninstall deb release sdks engines bytecode test test-unit test-slow test-vm test-debian12 bench bench-quick bench-scale \
    bench-scale-large lint lint-ci coverage mutants ecs-tables docs lock clean

PYTHON := .venv/bin/python
# What a target needs is got ready at the same time: some of it waits for the network, and lint computes.
MAKEFLAGS += --jobs=3
# loadscope: the tests of one module stay on one worker, so that one lab can serve them all. Workers wait (for packets, for
# the kernel) twice as long as they compute, so seven of them keep two processors busy. tests/support/run/mixed.py orders the
# modules. Unit tests only compute: each worker more would only import everything once more.
# Tests that run make themselves aren't told of these jobs.
PYTEST = env --unset=MAKEFLAGS $(PYTHON) -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder
WORKERS := 7
test-unit: WORKERS := 3
test-slow: WORKERS := 5
# More options for pytest: make test PYTEST_FLAGS='-k priority'
PYTEST_FLAGS ?=
UV := uv==0.13.9
COMPILE := .venv-lock/bin/uv --quiet --system-certs pip compile --universal --python-version 3.11 \
    --generate-hashes --only-binary :all: --no-emit-index-url --upgrade --custom-compile-command 'make lock'
PIP := $(PYTHON) -m pip --quiet --disable-pip-version-check install --no-deps --require-hashes --only-binary :all:
# The programs that the benchmark compares with are in a tree of their own, so that none of them starts on this machine.
PEERS := $(or $(SGDP_BENCH_PEERS),/var/tmp/sgdataplane-bench-peers)
# The cloud's official SDKs, for tests of the API; their many packages are in a folder of their own.
SDKS := $(or $(SGDP_SDKS),/var/tmp/sgdataplane-sdks)
# Container engines, unpacked for the tests and not installed.
ENGINES := $(or $(SGDP_ENGINES),/var/tmp/sgdataplane-engines)
# What a slow test of libvirt's virtual machines needs besides.
GUESTS := libvirt-daemon-driver-qemu qemu-system-x86 seabios linux-image-cloud-amd64
BENCH := PYTHONPATH=netns-lab $(PYTHON) -m bench --peers $(PEERS)

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: ## install what is missing: Debian packages, .venv, the locked Python packages
	@tools/setup.sh

demo: setup ## bring the three-tier example up as a lab, probe every pair with real packets, take it down
	@$(PYTHON) -m sgdataplane.lab run

demo-api: sdks ## let the cloud's own SDK drive real packets: an API, a lab behind it, and examples/api/tutorial.py
	@tools/demo-api.sh $(SDKS)/python/bin/python

clients: setup ## run the acceptance tests of Terraform's provider against the API, and write docs/reference/clients.md (PROVIDER: its checkout)
	@$(PYTHON) -m tools.clients "$(PROVIDER)" $(CLIENTS_FLAGS)

install: setup ## install the product as files (PREFIX, by default /usr/local; DESTDIR); starts nothing
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' tools/install.sh

uninstall: ## remove these files; configuration, policies and rules in force stay
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' tools/install.sh uninstall

deb: setup ## build the Debian packages for the release that this runs on, into build/
	@tools/deb.sh

release: setup ## make sdist, wheel, Debian packages and checksums of the last commit in dist/ (docs/release.md)
	@mkdir -p build
	@tools/release.sh

sdks: setup ## get the cloud's official SDKs, which tests of the API use; they skip without
	@tools/setup-sdks.sh $(SDKS)

engines: setup ## unpack docker, containerd, podman and libvirt for tests, which skip without; nothing is installed
	@tools/setup-engines.sh $(ENGINES)

# Tests start hundreds of interpreters. Whatever the environment says, bytecode is kept, so that each doesn't compile anew.
test test-unit test-slow: export PYTHONDONTWRITEBYTECODE :=

# Else all workers compile all modules, each for itself, at the same time. One process does it here, while mypy computes.
bytecode: setup
	@$(PYTHON) -m pytest --collect-only -qq >/dev/null || true  # the tests say what is wrong

test: lint sdks engines bytecode ## run ruff, mypy and every test that isn't slow
	$(PYTEST) -m 'not slow and not vm' $(PYTEST_FLAGS)

test-unit: setup ## run the unit tests: without root, and without any server
	$(PYTEST) -m 'not slow' $(PYTEST_FLAGS) tests/unit

test-slow: setup ## run the slow tests: scale and soak
	@tools/setup-sdks.sh $(SDKS) ansible aliyun
	@tools/setup-engines.sh $(ENGINES) $(GUESTS)
	@tools/setup-checks.sh
	@tools/setup-bench.sh
	$(PYTEST) -m 'slow and not vm' $(PYTEST_FLAGS)

test-vm: setup ## test on Debian's kernels in virtual machines, for an hour; a part: VM=6.12-uml TESTS=tests/kernel, or SUITES=edges
	$(PYTHON) -m tests.vm $(addprefix --machine=,$(VM)) $(addprefix --suite=,$(SUITES)) $(TESTS)

test-debian12: ## test the last commit in a Debian 12 userland (nft 1.0.6, Python 3.11)
	tools/debian12.sh make test PYTEST_FLAGS='$(PYTEST_FLAGS)'

bench: setup ## run the benchmark beside other filters, for about 25 minutes; writes into netns-lab/bench/results
	@tools/setup-bench.sh $(PEERS)
	$(BENCH) --out netns-lab/bench/results

bench-quick: setup ## run fewer rounds of it, for less than 3 minutes; writes into build/bench-quick
	@tools/setup-bench.sh $(PEERS)
	$(BENCH) --quick --out build/bench-quick

bench-scale: setup ## measure many hosts with streams to real relays, for less than 15 minutes; writes into netns-lab/bench/results
	@tools/setup-bench.sh
	PYTHONPATH=netns-lab $(PYTHON) -m bench.scale --out netns-lab/bench/results

bench-scale-large: setup ## measure what that has no time for: 20,000 hosts, 100,000 in the store; for up to an hour
	@tools/setup-bench.sh
	PYTHONPATH=netns-lab $(PYTHON) -m bench.scale --large --out netns-lab/bench/results

lint: setup ## run ruff, its formatter, and mypy
	$(PYTHON) -m ruff check --quiet
	$(PYTHON) -m ruff format --check --quiet
	$(PYTHON) -m mypy

lint-ci: setup ## judge what CI runs, by zizmor
	@$(PIP) --requirement requirements-ci.lock
	.venv/bin/zizmor --quiet --offline .github action.yml

coverage: setup ## run the unit tests, and say which lines they run: build/coverage.md
	@$(PIP) --requirement requirements-ci.lock
	@mkdir -p build
	@rm -f build/coverage.data*
	$(PYTHON) -m coverage run -m pytest -n 4 --dist loadscope --no-loadscope-reorder -m 'not slow' $(PYTEST_FLAGS) tests/unit
	$(PYTHON) -m coverage combine --quiet
	$(PYTHON) -m coverage report --format=markdown > build/coverage.md
	@tail -n 1 build/coverage.md

mutants: setup ## make mutants of the modules that decide or guard, and say which ones live: build/mutants.md
	@$(PIP) --requirement requirements-ci.lock
	.venv/bin/mutmut run
	$(PYTHON) -m tools.mutants > build/mutants.md
	@tail -n 40 build/mutants.md

ecs-tables: sdks ## write the tables of the cloud's actions anew from its SDK
	$(PYTHON) -m tools.ecs_tables $(SDKS)/python/lib/python3*/site-packages

docs: setup ## write the pages of docs that are made from the code, and build the site into build/site
	$(PYTHON) -m tools.reference
	@$(PIP) --requirement requirements-docs.lock
	$(PYTHON) -m tools.site

lock: setup ## write the newest versions that pyproject.toml allows into requirements.lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet $(UV)
	$(COMPILE) pyproject.toml --extra api --extra etcd --extra relay --group dev --output-file requirements.lock
	$(subst --universal,--python-platform linux,$(COMPILE)) pyproject.toml --extra api --constraints requirements.lock --output-file requirements-api.lock
	$(COMPILE) --group bench --constraints requirements.lock --output-file requirements-bench.lock
	$(COMPILE) --group release --constraints requirements.lock --output-file requirements-release.lock
	$(COMPILE) --group docs --constraints requirements.lock --output-file requirements-docs.lock
	$(COMPILE) --group ci --constraints requirements.lock --output-file requirements-ci.lock
	$(subst --only-binary :all:,,$(COMPILE)) --group sdks --output-file requirements-sdks.lock
	$(subst --only-binary :all:,,$(COMPILE)) --group ansible --output-file requirements-ansible.lock
	$(subst --only-binary :all:,,$(COMPILE)) --group ansible-modules --no-deps --output-file requirements-ansible-modules.lock
	rm -r .venv-lock
	@tools/setup.sh

clean: ## remove the environment and all caches
	rm -rf .venv .venv-lock .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist mutants
	find . -name __pycache__ -type d -prune -exec rm -r {} +

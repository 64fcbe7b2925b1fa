#!/usr/bin/env bash
# Makes the environment and passes all checks and tests. Words given are handed to pytest: scripts/test.sh -m slow
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/check.sh
# One thread a process, or the processes get in each other's way
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
.venv/bin/python -m pytest -q -n "${PYTEST_PROCESSES:-2}" "$@"

#!/usr/bin/env bash
# Which lines of the package the default tests run: a table of the files that are not covered whole, and an error where
# they are less than 95 % together. Drivers and processes that tests start count, too. Words given are handed to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
make_environment dev
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
rm -f .coverage .coverage.*
.venv/bin/python -m coverage run -m pytest -q -n "${PYTEST_PROCESSES:-2}" "$@"
.venv/bin/python -m coverage combine -q
.venv/bin/python -m coverage report

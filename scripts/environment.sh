# Sourced by the other scripts: `make_environment EXTRA` makes .venv with this package and one of its extras.
# The environment is kept; while setup.py and constraints.txt stay as they are, the next call returns at once.

make_environment() {
  local extra=$1 python=${PYTHON:-python3} stamp
  if ! .venv/bin/python -c '' 2>/dev/null; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
      echo "error: the tested set of versions (constraints.txt) needs Python 3.11 or newer; got $("$python" -V);" \
        "name another one: PYTHON=python3.11 bash $0" >&2
      return 1
    }
    rm -rf .venv
    "$python" -m venv .venv
  fi
  stamp=.venv/installed-$extra-$(cat setup.py constraints.txt | .venv/bin/python -c \
    'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16])')
  [ -e "$stamp" ] && return
  echo "Installing into .venv ($extra)"
  # torch first and alone: it is most of the download, and by its exact version pip takes a build for this machine
  # where one is at hand (a CPU wheel in PIP_FIND_LINKS, say) before any other requirement can ask for a newer one.
  .venv/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$extra]"
  touch "$stamp"
}

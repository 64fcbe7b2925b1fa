"""The list of deliberate faults is in order, and the script tells what is caught from what is not."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

SCRIPTS = Path(__file__).parents[2] / "scripts"
specification = importlib.util.spec_from_file_location("mutate", SCRIPTS / "mutate.py")
mutate = importlib.util.module_from_spec(specification)
specification.loader.exec_module(mutate)
FAULTS = mutate.read_faults()
RANKS = ["tests/formats/test_runs.py::test_each_format_has_its_columns"]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_can_be_made_and_its_tests_are_there(fault):
    assert mutate.problems_of(fault) == []


def test_every_fault_has_a_name_of_its_own():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_a_fault_that_cannot_be_made_says_why():
    wrong = mutate.Fault("?", "tevatron_distill/schema.py", "no such text", "no such text", ("tests/none.py",))
    assert mutate.problems_of(wrong) == [
        "its old text must stand once in tevatron_distill/schema.py; it stands there 0 times",
        "it changes nothing",
        "there is no tests/none.py",
    ]
    missing = FAULTS[0]._replace(tests=("tests/test_metrics.py::test_of_nothing",))
    assert mutate.problems_of(missing) == ["there is no tests/test_metrics.py::test_of_nothing"]


def test_what_a_test_says_catches_a_fault_and_broken_code_does_not(tmp_path):
    runs = {"file": "tevatron_distill/formats/runs.py", "tests": RANKS}
    faults = [
        {"name": "ranks from 0", "old": "strict=True), start=1)", "new": "strict=True), start=0)", **runs},
        {"name": "another tag", "old": 'fmt: str = "tevatron", tag: str = "tevatron_distill"\n) ->', **runs},
        {"name": "no Python", "old": "RUN_FORMATS = (", "new": "RUN_FORMATS = ((", **runs},
    ]
    faults[1]["new"] = faults[1]["old"].replace('"tevatron_distill"', '"ours"')
    (tmp_path / "mutations.yaml").write_text(yaml.safe_dump(faults), encoding="utf-8")
    before = (mutate.ROOT / runs["file"]).read_text(encoding="utf-8")
    call = f"import mutate; raise SystemExit(mutate.main(['--faults', {str(tmp_path / 'mutations.yaml')!r}]))"
    done = subprocess.run([sys.executable, "-c", call], cwd=SCRIPTS, capture_output=True, text=True, timeout=280)
    assert done.returncode == 1, done.stderr
    lines = {line[:12].strip(): line for line in done.stdout.splitlines()[-5:]}
    assert "test_each_format_has_its_columns[trec" in lines["ranks from 0"]
    assert "AssertionError" in lines["ranks from 0"]
    assert "NOT CAUGHT" in lines["another tag"]
    assert "NOT CAUGHT could not be collected" in lines["no Python"]
    assert done.stdout.endswith("1 of 3 faults caught\n")
    assert (mutate.ROOT / runs["file"]).read_text(encoding="utf-8") == before

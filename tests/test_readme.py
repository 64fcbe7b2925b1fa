from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tevatron_distill.driver.main import VERBS

ROOT = Path(__file__).parent.parent


def test_the_readmes_table_of_flags_is_the_one_of_the_dataclasses():
    script = runpy.run_path(str(ROOT / "scripts" / "flag_table.py"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert script["with_tables"](text) == text, "run `python scripts/flag_table.py`"


@pytest.mark.parametrize("verb", VERBS)
def test_every_driver_stands_in_the_readme(verb):
    assert f"tevatron_distill.driver.{verb}" in (ROOT / "README.md").read_text(encoding="utf-8")

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_readmes_table_of_flags_is_the_one_of_the_dataclasses():
    script = runpy.run_path(str(ROOT / "scripts" / "flag_table.py"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert script["with_tables"](text) == text, "run `python scripts/flag_table.py`"


def test_every_driver_stands_in_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    modules = {path.stem for path in (ROOT / "tevatron_distill" / "driver").glob("*.py")}
    drivers = modules - {"__init__", "common", "main"}
    assert {name for name in drivers if f"tevatron_distill.driver.{name}" not in text} == set()

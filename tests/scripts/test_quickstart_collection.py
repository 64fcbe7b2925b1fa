"""The quickstart's collection: what becomes an item, and which modules are held out."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"

PASSAGE = " ".join(f"word{number}" for number in range(20))


@pytest.fixture(scope="module")
def collection() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quickstart_collection", SCRIPTS / "quickstart_collection.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_library(folder: Path) -> Path:
    """A library of one package, one module, and things that are passed over."""
    for name in ("pack", "test", "site-packages/other"):
        (folder / name).mkdir(parents=True)
    inner = f'class A:\n    def f(self):\n        """Find the first item quickly.\n\n        {PASSAGE}\n        """\n'
    (folder / "pack" / "__init__.py").write_text(inner, encoding="utf-8")
    (folder / "single.py").write_text(
        f'"""Open a file for reading.\n\n{PASSAGE} end\n"""\ndef g():\n    """Too short."""\n'
        f'def h():\n    """Open a file for reading.\n\n    {PASSAGE} other\n    """\n',
        encoding="utf-8",
    )
    for skipped in ("test/test_a.py", "site-packages/other/b.py"):
        (folder / skipped).write_text(f'"""A query of four words.\n\n{PASSAGE} {skipped}\n"""\n', encoding="utf-8")
    return folder


def test_first_paragraph_is_the_query_and_the_rest_the_passage(collection: ModuleType, tmp_path: Path) -> None:
    assert list(collection.items(write_library(tmp_path))) == [
        ("pack.A.f:0", "Find the first item quickly.", PASSAGE),
        ("single:0", "Open a file for reading.", f"{PASSAGE} end"),
    ]


def test_too_few_words_on_either_side_make_no_item(collection: ModuleType) -> None:
    assert collection.split_item(f"Three words only.\n\n{PASSAGE}") is None
    assert collection.split_item("Four words are enough.\n\nBut not here.") is None
    assert collection.split_item("Four words are enough, but there is no second paragraph.") is None
    assert collection.split_item(f"Four words\nare enough.\n\n{PASSAGE}") == ("Four words are enough.", PASSAGE)


def test_a_module_is_held_out_as_a_whole(collection: ModuleType) -> None:
    for module in ("email", "asyncio", "importlib"):
        names = (f"{module}:0", f"{module}.part:1", f"{module}.part.Class.method:2")
        assert len({collection.is_held_out(name) for name in names}) == 1
    modules = [f"module{number}" for number in range(1000)]
    held_out = sum(collection.is_held_out(module) for module in modules)
    assert held_out == pytest.approx(1000 * collection.HELD_OUT, abs=50)


def test_the_script_runs_without_the_package(tmp_path: Path, collection: ModuleType, capsys, monkeypatch) -> None:
    library = write_library(tmp_path / "library")
    monkeypatch.setattr(collection.sysconfig, "get_paths", lambda: {"stdlib": str(library)})
    monkeypatch.setattr(sys, "argv", ["quickstart_collection.py", str(tmp_path / "out")])
    collection.main()
    assert capsys.readouterr().out.endswith("2 passages\n")
    lines = [
        line
        for split in ("train", "test")
        for line in (tmp_path / "out" / "qrels" / f"{split}.txt").read_text(encoding="utf-8").splitlines()
    ]
    assert sorted(lines) == ["q:pack.A.f:0 0 pack.A.f:0 1", "q:single:0 0 single:0 1"]
    assert "tevatron_distill" not in (SCRIPTS / "quickstart_collection.py").read_text(encoding="utf-8")

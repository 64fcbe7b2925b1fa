"""The notebooks: what is stored is true, they run on stand-ins, and (slow) give their numbers again."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
QUICK = {
    "your_own_collection.ipynb": {"train_queries": 8, "test_queries": 6, "depth": 5, "steps": 2},
    "bring_your_own_teacher.ipynb": {"num_queries": 6, "depth": 5, "steps": 2},
}
COLLECTION = """
import json, sys
from pathlib import Path

folder = Path(sys.argv[1])
(folder / "qrels").mkdir(parents=True)
words = "red green blue yellow one two three four five six seven eight nine ten cat dog".split()
texts = {f"m{n}.{words[n]}.f:{n}": " ".join(words[n % 4 : n % 4 + 9]) + f" {words[n]}" * 3 for n in range(16)}
corpus = [json.dumps({"docid": docid, "title": "", "text": text}) for docid, text in texts.items()]
(folder / "corpus.jsonl").write_text("\\n".join(corpus) + "\\n")
for name in ("train", "test"):
    queries = [json.dumps({"query_id": f"q:{docid}", "query": text[-20:]}) for docid, text in texts.items()]
    (folder / f"{name}_queries.jsonl").write_text("\\n".join(queries) + "\\n")
    (folder / "qrels" / f"{name}.txt").write_text("".join(f"q:{docid} 0 {docid} 1\\n" for docid in texts))
"""
WEIGHTS = """
from pathlib import Path

def weights_folder():
    return Path({folder!r})
"""


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    pytest.importorskip("nbclient")
    spec = importlib.util.spec_from_file_location("run_notebooks", SCRIPTS / "run_notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(name: str) -> Any:
    nbformat = pytest.importorskip("nbformat")
    return nbformat.read(SCRIPTS / name, as_version=4)


def printed(book: Any) -> str:
    """All that the cells have printed to stdout."""
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    return "".join(output["text"] for output in outputs if output.get("name") == "stdout")


def measured(book: Any) -> dict[str, float]:
    """nDCG@10 of each run."""
    rows = r"^own/(\w+)(?:\.test)?\.trec +(\d\.\d+)", r"^(\w+) +nDCG@10 (\d\.\d+)"
    lines = [found for row in rows for found in re.findall(row, printed(book), re.MULTILINE)]
    return {name: float(value) for name, value in lines}


def test_every_notebook_is_tested():
    assert {path.name for path in SCRIPTS.glob("*.ipynb")} == set(QUICK)


@pytest.mark.parametrize("name", QUICK)
def test_a_notebook_is_stored_as_it_was_executed_from_top_to_bottom(name, runner, tmp_path):
    book = read(name)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = {output["output_type"] for cell in code for output in cell.outputs}
    assert kinds <= {"stream", "execute_result", "display_data"}
    assert not runner.local_names(book, tmp_path)
    assert (SCRIPTS / name).stat().st_size < runner.MAX_BYTES
    assert max(len(cell.source.splitlines()) for cell in code) < 35


def test_what_the_notebook_on_a_collection_says_is_in_its_outputs():
    found = measured(read("your_own_collection.ipynb"))
    assert set(found) == {"bm25", "teacher", "untrained", "student"}
    assert found["untrained"] == pytest.approx(found["bm25"], abs=0.02)
    assert max(found["untrained"], found["bm25"]) + 0.02 < found["student"] < found["teacher"]
    learned = (found["student"] - found["untrained"]) / (found["teacher"] - found["untrained"])
    assert 0.6 < learned < 0.75  # "about two thirds"


def test_what_the_notebook_on_teachers_says_is_in_its_outputs():
    found = measured(read("bring_your_own_teacher.ipynb"))
    assert set(found) == {"BM25", "by_name", "by_minilm", "by_pairs", "by_server", "merged"}
    assert abs(found["by_pairs"] - found["BM25"]) < 0.02
    assert found["by_server"] < found["BM25"] < min(found["by_name"], found["by_minilm"])
    assert abs(found["merged"] - max(found["by_name"], found["by_minilm"])) < 0.02


@pytest.fixture
def quiet_again():
    """What the notebooks set for their own process."""
    import transformers

    before = transformers.logging.get_verbosity()
    yield
    transformers.logging.set_verbosity(before)
    transformers.logging.enable_progress_bar()


@pytest.mark.parametrize("name", QUICK)
def test_a_notebook_runs_on_stand_ins(name, bert_folder, tmp_path, monkeypatch, capsys, quiet_again):
    for module in ("IPython", "sentence_transformers", "openai", "matplotlib"):
        pytest.importorskip(module)
    (tmp_path / "quickstart_collection.py").write_text(COLLECTION)
    (tmp_path / "quickstart_weights.py").write_text(WEIGHTS.format(folder=str(bert_folder)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "quickstart_weights", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    names: dict[str, Any] = {"__name__": "notebook"}
    for cell in read(name).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, cell.id, "exec"), names)
        if "parameters" in cell.metadata.get("tags", []):
            assert set(QUICK[name]) <= set(names)
            names.update(QUICK[name])
    monkeypatch.delitem(sys.modules, "quickstart_weights", raising=False)
    assert "nDCG@10" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("name", QUICK)
def test_a_notebook_gives_its_numbers_again(name, runner, minilm_folder, tmp_path):
    """On another Python, whose documentation strings are a slightly different collection, too."""
    stored = measured(read(name))
    assert measured(runner.execute(SCRIPTS / name, tmp_path)) == pytest.approx(stored, abs=0.05)

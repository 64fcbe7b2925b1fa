"""What a driver without a model imports: neither torch nor anything else that takes longer than its work."""

from __future__ import annotations

import subprocess
import sys

import pytest
import transformers.hf_argparser  # noqa: F401  (whatever ran before)

from tevatron_distill.arguments import parser
from tevatron_distill.driver.main import VERBS

HEAVY = ("torch", "transformers", "datasets", "scipy.stats", "huggingface_hub", "matplotlib", "peft")
PROGRAM = f"""
import sys
from tevatron_distill.driver.main import main
for words in sys.argv[1:]:
    try:
        main(words.split())
    except SystemExit as end:
        assert not end.code, end.code
print("heavy:", *(name for name in {HEAVY} if name in sys.modules))
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    (folder / "corpus.jsonl").write_text(
        '{"docid": "a", "title": "", "text": "red cat"}\n{"docid": "b", "title": "", "text": "green dog"}\n'
    )
    (folder / "queries.jsonl").write_text('{"query_id": "q1", "query": "red"}\n')
    (folder / "qrels").write_text("q1 0 a 1\n")
    (folder / "first").write_text("q1 b 2.0\nq1 a 1.0\n")
    (folder / "second").write_text("q1 a 2.0\nq1 b 1.0\n")
    return folder


@pytest.mark.parametrize(
    "lines",
    [
        ["--help", "retrieve --help", "evaluate --help", "convert --help", "merge --help"],
        [
            "retrieve --corpus_path corpus.jsonl --queries_path queries.jsonl --output_path found",
            "retrieve --corpus_path corpus.jsonl --queries_path queries.jsonl --retrieval_results first "
            "--output_path rows.jsonl",
        ],
        ["evaluate --run_path first --qrels_path qrels"],
        [
            "convert --input first --output first.trec --to trec",
            "convert --input first --output first.parquet --to parquet",
        ],
    ],
    ids=lambda lines: lines[-1].split()[0],
)
def test_a_driver_without_a_model_starts_without_heavy_libraries(lines, work):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *lines], cwd=work, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy:"


def test_the_lists_of_all_verbs_need_no_library_at_all():
    program = "import sys, tevatron_distill.driver.main as main; print('numpy' in sys.modules, *main.VERBS)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", *VERBS]


def test_the_parser_alone_is_transformers_own(monkeypatch):
    within = parser.load_parser()
    assert within.__module__ == "transformers.hf_argparser"
    monkeypatch.delitem(sys.modules, "transformers")
    alone = parser.load_parser()
    assert alone is not within
    assert alone.__name__ == within.__name__


def test_a_parser_that_needs_its_package_is_imported_with_it(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "transformers")
    (tmp_path / "transformers").mkdir()
    (tmp_path / "transformers" / "__init__.py").write_text("")
    (tmp_path / "transformers" / "hf_argparser.py").write_text("from . import something_new\n")
    monkeypatch.syspath_prepend(tmp_path)
    imported = []
    monkeypatch.setattr(parser.importlib, "import_module", lambda name: imported.append(name) or parser)
    monkeypatch.setattr(parser, "HfArgumentParser", "theirs", raising=False)
    assert parser.load_parser() == "theirs"
    assert imported == ["transformers.hf_argparser"]


def test_help_whose_reader_has_gone_ends_in_silence():
    command = [sys.executable, "-m", "tevatron_distill.driver.main", "evaluate", "--help_all"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        started.stdout.close()
        assert started.stderr.read() == ""
    assert started.returncode == 0

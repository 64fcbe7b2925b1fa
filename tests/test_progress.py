"""Bars: at a terminal, with a rate and the time left; none in logs, nor under ``--disable_tqdm``."""

from __future__ import annotations

import ast
import importlib
import io
import os
import re
import sys
from pathlib import Path

import pytest

from tevatron_distill import progress as bars
from tevatron_distill.arguments import parse_arguments
from tevatron_distill.arguments.merge import MergeArguments
from tevatron_distill.driver import convert, rerank, retrieve, teach, train
from tevatron_distill.progress import progress, want_bars
from tevatron_distill.training_arguments import DistillTrainingArguments

PACKAGE = Path(__file__).parent.parent / "tevatron_distill"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def show(monkeypatch):
    """Puts a stream in stderr's place (pytest does so too, anew for the test itself); later bars are as they were."""
    monkeypatch.setattr(bars, "LIBRARIES", {})  # their switches are for the whole process
    monkeypatch.setattr(bars, "_bars", {"wanted": True})

    def stream(kind):
        made = kind()
        monkeypatch.setattr(sys, "stderr", made)
        return made

    return stream


def seen(stream):
    return stream.getvalue().replace("\r", "\n")


def test_at_a_terminal_a_bar_has_a_rate_and_the_time_left(show):
    terminal = show(Terminal)
    assert want_bars(True)
    assert list(progress(range(3), desc="passages", unit="passage")) == [0, 1, 2]
    assert re.search(r"passages: 100%.*3/3 \[00:00<00:00, .*passage/s\]", seen(terminal))


@pytest.mark.parametrize("hidden", [True, False])
def test_there_is_none_where_it_is_not_wanted(hidden, show):
    terminal = show(Terminal)
    assert want_bars(hidden) is hidden
    assert list(progress(range(3), hidden=hidden)) == [0, 1, 2]
    assert seen(terminal) == ""


def test_there_is_none_in_a_log(show):
    log = show(io.StringIO)
    assert not want_bars(True)
    with progress(total=3) as bar:
        bar.update(3)
    assert log.getvalue() == ""


def test_libraries_are_told_to_have_none_before_and_after_they_are_imported(monkeypatch):
    told = []
    monkeypatch.setattr(bars, "LIBRARIES", {"NO_BARS_OF_JSON": ("json.decoder", "quiet"), "NO_BARS_OF_X": ("x.y", "z")})
    monkeypatch.setattr(importlib.import_module("json.decoder"), "quiet", lambda: told.append("json"), raising=False)
    monkeypatch.setattr(bars, "_bars", {"wanted": True})
    for variable in bars.LIBRARIES:
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    assert not want_bars(False)
    assert told == ["json"]
    assert {os.environ.pop(variable) for variable in bars.LIBRARIES} == {"1"}


@pytest.mark.parametrize("library", bars.LIBRARIES.values(), ids=lambda library: library[0])
def test_the_switches_of_libraries_exist(library):
    module, function = library
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("said", [[], ["--disable_tqdm"], ["--disable_tqdm", "false"]])
@pytest.mark.parametrize(
    ("kinds", "words"),
    [((MergeArguments,), ["--output_path", "x"]), ((DistillTrainingArguments,), ["--use_cpu"])],
    ids=["ours", "HF's"],
)
def test_the_flag_is_every_drivers(kinds, words, said, show):
    show(Terminal)
    [args] = parse_arguments([*words, *said], *kinds, prog="x")
    assert bars._bars["wanted"] is (said != ["--disable_tqdm"])
    if isinstance(args, DistillTrainingArguments):
        assert args.disable_tqdm is (said == ["--disable_tqdm"])


def test_in_a_log_the_trainer_prints_its_figures_in_place_of_a_bar(show):
    show(io.StringIO)
    [args] = parse_arguments(["--use_cpu"], DistillTrainingArguments, prog="train")
    assert args.disable_tqdm is True


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("corpus.jsonl").write_text(
        "".join(f'{{"docid": "{i}", "title": "", "text": "red {word}"}}\n' for i, word in enumerate(["cat", "dog"]))
    )
    Path("queries.jsonl").write_text('{"query_id": "q1", "query": "red"}\n{"query_id": "q2", "query": "dog"}\n')
    Path("run").write_text("q1 0 2.0\nq1 1 1.0\nq2 1 1.0\nq2 0 0.5\n")
    Path("qrels").write_text("q1 0 1 1\nq2 0 1 1\n")
    joined = "--corpus_path corpus.jsonl --queries_path queries.jsonl --retrieval_results run --output_path rows.jsonl"
    retrieve.main([*joined.split(), "--disable_tqdm"])
    return tmp_path


def commands(folder):
    """A command of each driver that goes through queries or passages, and what its bar counts."""
    texts = "--corpus_path corpus.jsonl --queries_path queries.jsonl"
    ours = f"--model_name_or_path {folder} --dataset_path rows.jsonl --use_cpu --rerank_max_len 32"
    return {
        "retrieve": (retrieve.main, f"{texts} --output_path found", "query/s"),
        "join": (retrieve.main, f"{texts} --retrieval_results run --output_path again.jsonl", "passage/s"),
        "mine": (convert.main, f"--to groups --run_path run --qrels_path qrels {texts} --output mined", "passage/s"),
        "read": (convert.main, "--to groups --input rows.jsonl --qrels_path qrels --output read", "group/s"),
        "teach": (
            teach.main,
            "--teacher qrels --qrels_path qrels --dataset_path rows.jsonl --output_path g",
            "query/s",
        ),
        "rerank": (rerank.main, f"{ours} --rerank_output_path ranked", "query/s"),
        "train": (
            train.main,
            f"--model_name_or_path {folder} --dataset_path groups.jsonl --use_cpu --rerank_max_len 32 --max_steps 2 "
            "--train_group_size 2 --per_device_train_batch_size 1 --output_dir out --save_strategy no",
            "it/s",
        ),
    }


@pytest.mark.parametrize("quiet", [False, True], ids=["bar", "quiet"])
@pytest.mark.parametrize("name", ["retrieve", "join", "mine", "read", "teach", "rerank", "train"])
def test_a_driver_shows_how_far_it_is_unless_told_not_to(name, quiet, work, bert_classifier_folder, show):
    if name == "train":
        judge = "--teacher qrels --qrels_path qrels --dataset_path rows.jsonl --output_path groups.jsonl"
        teach.main([*judge.split(), "--disable_tqdm"])
    main, words, unit = commands(bert_classifier_folder)[name]
    terminal = show(Terminal)
    main([*words.split(), *["--disable_tqdm"] * quiet])
    text = seen(terminal)
    if quiet:
        assert "%|" not in text
    else:
        with_time_left, counting = rf"100%\|.*<\d\d:\d\d, .*{unit}", rf"\d{unit.removesuffix('/s')} \[.*{unit}"
        assert re.search(counting if name == "read" else with_time_left, text)


def test_no_module_makes_bars_of_its_own():
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name == "progress.py" and path.parent == PACKAGE:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "tqdm" for name in names), path

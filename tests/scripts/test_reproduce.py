"""The scripts that reproduce a paper: what they would run is what our drivers take, and tiny models go all the way."""

from __future__ import annotations

import json
import os
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import WORDS, build_bert, build_causal, build_t5
from documented import ROOT, driver_call
from test_paper_scripts import DRIVERS, without_gpu

from tevatron_distill.arguments import parse_arguments
from tevatron_distill.driver.main import main as tevatron_distill
from tevatron_distill.formats.runs import read_run

SCRIPTS = ROOT / "scripts"
ACCUMULATION = "--gradient_accumulation_steps"
VARIANTS = {
    "instruct_distill": ["base", "large", "xl", "llama"],
    "rankllama": [""],
    "rankzephyr": [""],
    "first_mistral": [""],
    "rankt5": ["base", "large", "3b"],
    "monoelectra": ["base", "large"],
    "ettin": ["17m", "32m", "68m", "150m", "400m", "1b"],
}
ALL = [(name, variant) for name, variants in VARIANTS.items() for variant in variants]
TINY: dict[str, tuple[Callable[..., Path], dict[str, object]]] = {
    "instruct_distill": (build_t5, {}),
    "rankllama": (build_causal, {}),
    "rankzephyr": (build_causal, {}),
    "first_mistral": (build_causal, {}),
    "rankt5": (build_t5, {}),
    "monoelectra": (build_bert, {}),
    "ettin": (build_bert, {}),
}
PASSAGES = [{"docid": f"d{place}", "title": "", "text": " ".join(WORDS[place:])} for place in range(5)]
CPU = {
    "TRAIN_FLAGS": "--bf16 false --use_cpu --max_steps 2 --report_to none --save_strategy no",
    "TEACH_FLAGS": "--dtype float32",
    "RERANK_FLAGS": "--bf16 false --use_cpu",
    "LAUNCHER": "python -m",
    "ZERO": "",
    "SETS": "toy",
    "GPUS": "1",
    "YES_TOKEN": "5",
}


def script(name: str, variant: str, folder: Path, **variables: str) -> str:
    """What a script prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    places = {"WORK": str(folder / "work"), "SETS_DIR": str(folder / "sets"), "PATH": path}
    return subprocess.run(
        ["bash", str(SCRIPTS / f"{name}.sh"), *filter(None, [variant])],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **places, **variables},
    ).stdout


def planned(name: str, variant: str, folder: Path, **variables: str) -> list[list[str]]:
    """The commands that a script would run."""
    printed = script(name, variant, folder, DRY_RUN="1", **variables)
    return [shlex.split(line) for line in printed.splitlines() if line and not line.startswith("==")]


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("name", VARIANTS)
def test_every_command_of_a_script_is_one_of_ours(name, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    verbs = []
    for words in planned(name, VARIANTS[name][0], tmp_path):
        call = driver_call(words)
        if call is None:
            assert words[0] == "curl" or (SCRIPTS.parent / words[1]).is_file(), words
            continue
        verb, flags = call
        verbs.append(verb)
        parse_arguments(without_gpu(flags) if verb in ("train", "rerank") else flags, *DRIVERS[verb], prog=verb)
    assert "train" in verbs
    assert verbs[-1] == "rerank"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "variant"), ALL)
def test_every_variant_ends_in_the_table_of_its_figures(name, variant, tmp_path):
    commands = planned(name, variant, tmp_path)
    recipe = f"{name}-{variant}" if variant else name
    published = json.loads((SCRIPTS / "published.json").read_text(encoding="utf-8"))
    figures = published["recipes"][recipe]["figures"]
    needed = {one for figure in figures for one in published["means"].get(figure, [figure])}
    assert commands[-1][1:3] == ["scripts/reproduce_table.py", recipe]
    assert needed <= {words[2] for words in commands if words[1] == "scripts/published_sets.py"}


def test_as_many_queries_make_a_step_whatever_the_number_of_gpus(tmp_path):
    steps = set()
    for gpus in (1, 2, 4, 8):
        [train] = [words for words in planned("rankllama", "", tmp_path, GPUS=str(gpus)) if "--loss" in words]
        rows, times = (train[train.index(flag) + 1] for flag in ("--per_device_train_batch_size", ACCUMULATION))
        steps.add(gpus * int(rows) * int(times))
    assert steps == {128}


@pytest.mark.parametrize("name", ["instruct_distill", "rankt5", "monoelectra", "ettin", "rankllama"])
def test_a_word_that_a_script_does_not_know_shows_how_it_is_called(name, tmp_path):
    with pytest.raises(subprocess.CalledProcessError) as error:
        script(name, "huge", tmp_path)
    assert error.value.returncode == 2
    assert f"bash scripts/{name}.sh" in error.value.stderr


@pytest.mark.parametrize("name", VARIANTS)
def test_a_script_says_whose_figure_it_names_and_that_it_was_not_run(name):
    header = " ".join((SCRIPTS / f"{name}.sh").read_text().partition("set -euo")[0].replace("#", "").split())
    for words in ("nobody has reached", "arXiv", "Not run here", "From "):
        assert words in header


def rows_of(name: str) -> list[dict[str, object]]:
    """Training rows of the kind that a script's dataset has."""
    queries = WORDS[:4]
    if name == "instruct_distill":
        return [{"query": query, "positive_passages": [], "retrieved_passages": PASSAGES} for query in queries]
    if name in ("rankllama", "rankt5", "monoelectra"):
        judged = {"positive_passages": PASSAGES[:1], "negative_passages": PASSAGES[1:]}
        return [{"query_id": f"q{n}", "query": query, **judged} for n, query in enumerate(queries)]
    if name == "ettin":
        pairs = [(query, passage["text"]) for query in queries for passage in PASSAGES]
        return [{"query": query, "document": text, "label": -0.5 - place} for place, (query, text) in enumerate(pairs)]
    shown = "\n".join(f"[{letter}] {passage['text']}" for letter, passage in zip("ABCDE", PASSAGES, strict=True))
    rows = []
    for number, query in enumerate(queries):
        asked = f"I will provide you with 5 passages. Rank them based on their relevance to the search query: {query}."
        asked += f"\n\n{shown}\n\nSearch Query: {query}.\nRank the 5 passages above."
        texts = {"system": "You are RankLLM.", "human": asked, "gpt": "[B] > [A] > [C] > [D] > [E]"}
        rows.append({"id": str(number), "conversations": [{"from": k, "value": v} for k, v in texts.items()]})
    return rows


def write_inputs(name: str, folder: Path) -> Path:
    """Training rows, a test set `toy`, and permutations that stand for RankZephyr's; gives the path of the rows."""
    for kind in ("toy", "rank-distillm"):
        target = folder / "sets" / kind
        target.mkdir(parents=True)
        listed = [
            {"query_id": f"q{n}", "query": query, **passage, "score": -float(place)}
            for n, query in enumerate(WORDS[:3])
            for place, passage in enumerate(PASSAGES)
        ]
        (target / "candidates.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed))
        (target / "qrels.txt").write_text("".join(f"q{n} 0 d{n} 1\n" for n in range(3)))
        run = [f"q{n} Q0 d{place} {place + 1} {5 - place} z\n" for n in range(3) for place in range(5)]
        (target / "run.trec").write_text("".join(run))
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in rows_of(name)))
    return rows


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("name", VARIANTS)
def test_tiny_models_go_the_whole_way_to_the_table(name, tmp_path, make_folder, monkeypatch, capsys):
    build, keywords = TINY[name]
    rows = write_inputs(name, tmp_path)
    own = {"MODEL": str(make_folder(build, **keywords)), "ROWS": str(rows)}
    monkeypatch.chdir(ROOT)
    for words in planned(name, VARIANTS[name][0], tmp_path, **CPU, **own):
        call = driver_call(words)
        if call is not None:
            tevatron_distill([call[0], *call[1]])
    assert list(read_run(tmp_path / "work" / "run.toy.tsv")) == ["q0", "q1", "q2"]
    # what is finished is not done again: the table alone is left
    [table] = planned(name, VARIANTS[name][0], tmp_path, **CPU, **own)
    capsys.readouterr()
    runpy.run_path(str(SCRIPTS / "reproduce_table.py"))["main"](table[2:])
    [toy] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| toy")]
    assert toy.split("|")[2].strip() == ""
    assert 0 < float(toy.split("|")[3]) <= 1


def test_the_shell_runs_what_is_left_and_ends_in_the_table(tmp_path):
    write_inputs("ettin", tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    (work / "run.toy.tsv").write_text("q0\td0\t2.0\nq1\td1\t2.0\nq2\td2\t2.0\n")
    printed = script("ettin", "17m", tmp_path, SETS="toy", LAUNCHER="echo RUN").splitlines()
    assert [line.split()[:2] for line in printed if line.startswith("RUN")] == [
        ["RUN", "tevatron_distill.driver.train"]
    ]
    assert "| nanobeir | 0.6746 |  |  |" in printed
    assert "| toy |  | 1.0000 |  |" in printed


@pytest.mark.slow
def test_a_script_runs_from_its_own_shell_and_a_second_time_does_nothing(tmp_path, make_folder):
    rows = write_inputs("ettin", tmp_path)
    own = {"MODEL": str(make_folder(build_bert)), "ROWS": str(rows), **CPU}
    first = script("ettin", "17m", tmp_path, **own)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    second = script("ettin", "17m", tmp_path, **own)
    assert first.splitlines()[-5:] == second.splitlines()[-5:]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == written

"""The recipes: each is a whole command, and runs on tiny models when flags behind it name other paths."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from conftest import build_bert, build_causal, build_t5

from tevatron_distill.driver import main as command
from tevatron_distill.formats.groups import group_to_line, read_groups
from tevatron_distill.formats.rerank_input import write_candidates_lines
from tevatron_distill.formats.runs import read_run
from tevatron_distill.permutation import from_scores
from tevatron_distill.schema import Candidates

RECIPES = Path(__file__).parents[2] / "scripts" / "recipes"
NAMES = sorted(path.name for path in RECIPES.iterdir())
TINY = {
    "train_minilm.yaml": (build_bert, {"head": True}),
    "train_colbert.yaml": (build_bert, {}),
    "train_yes_token_lora.yaml": (build_causal, {}),
    "train_t5.yaml": (build_t5, {}),
    "teach_heapsort.yaml": (build_t5, {}),
    "rerank_cascade.yaml": (build_bert, {"head": True}),
    "rerank_onnx.yaml": (build_bert, {"head": True}),
}
"""The kind of model that a recipe names, as a tiny one."""


def values_of(name: str) -> dict[str, object]:
    values = yaml.safe_load((RECIPES / name).read_text(encoding="utf-8"))
    assert isinstance(values, dict)
    return values


@pytest.fixture
def folder(tmp_path, monkeypatch, toy_groups):
    """A working folder with the files that the recipes name."""
    monkeypatch.chdir(tmp_path)
    lines = [group_to_line(group) for group in toy_groups]
    Path("groups.jsonl").write_text("".join(f"{line}\n" for line in lines))
    rows = [
        {"query": group.query, "retrieved_passages": json.loads(line)["passages"]}
        for group, line in zip(toy_groups, lines, strict=True)
    ]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    orders = [" > ".join(str(position + 1) for position in group.permutation) for group in toy_groups]
    Path("permutations.json").write_text(json.dumps(orders))
    listed = [
        Candidates(group.query_id, group.query, group.passages, tuple(map(float, range(len(group.passages), 0, -1))))
        for group in toy_groups
    ]
    for name in ("rerank_input.jsonl", "dev.jsonl"):
        Path(name).write_text("".join(f"{line}\n" for line in write_candidates_lines(listed)))
    judged = [f"{group.query_id} 0 {group.passages[group.permutation[0]].docid} 1\n" for group in toy_groups]
    Path("dev.qrels").write_text("".join(judged))
    return tmp_path


def run(name: str, model: Path, *more: str) -> None:
    """``tevatron-distill VERB RECIPE --model_name_or_path MODEL …`` on this machine."""
    verb = name.partition("_")[0]
    words = ["--model_name_or_path", str(model), *more]
    words += [] if verb == "teach" else ["--use_cpu"]
    command.main([verb, str(RECIPES / name), *words])


def rank(model: str | Path) -> None:
    """Rank the candidates into the file ``r``, without a recipe."""
    flags = "--dataset_path rerank_input.jsonl --rerank_output_path r --use_cpu"
    command.main(["rerank", "--model_name_or_path", str(model), *flags.split()])


def test_there_is_a_tiny_model_for_each_recipe():
    assert set(TINY) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_the_command_that_it_is_for(name):
    text = (RECIPES / name).read_text(encoding="utf-8")
    head = [line[1:].strip() for line in text.splitlines() if line.startswith("#")]
    assert any(line.startswith(f"tevatron-distill {name.partition('_')[0]} scripts/recipes/{name}") for line in head)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("train")])
def test_a_recipe_trains_a_student_that_ranks(name, folder, make_folder):
    build, keywords = TINY[name]
    more = "--bf16 false --max_steps 2 --per_device_train_batch_size 2 --logging_steps 1"
    run(name, make_folder(build, **keywords), *more.split())
    rank("student")
    assert {query_id: len(found) for query_id, found in read_run("r").items()} == {"q0": 5, "q1": 3, "q2": 6, "q3": 2}
    config = json.loads(Path("student", "reranker_config.json").read_text())
    assert config["student"] == values_of(name)["student"]


def test_a_recipe_teaches_groups_and_permutations(folder, make_folder):
    build, keywords = TINY["teach_heapsort.yaml"]
    more = "--output_path taught.jsonl --permutation_path taught.json --dtype float32 --top_k 2"
    run("teach_heapsort.yaml", make_folder(build, **keywords), *more.split())
    groups = read_groups("taught.jsonl")
    assert [group.num_ranked for group in groups] == [2, 2, 2, 2]
    strings = [" > ".join(str(position + 1) for position in group.permutation) for group in groups]
    assert json.loads(Path("taught.json").read_text()) == strings
    assert read_run("teacher.trec").keys() == {"q0", "q1", "q2", "q3"}


def test_a_recipe_ranks_by_a_cascade(folder, make_folder):
    build, keywords = TINY["rerank_cascade.yaml"]
    model = make_folder(build, **keywords)
    run("rerank_cascade.yaml", model, "--cascade_name_or_path", str(model), "--cascade_depth", "3")
    rank(model)
    # the same student twice: its own order
    assert [list(found) for found in read_run("reranked.trec").values()] == [list(r) for r in read_run("r").values()]


def test_a_recipe_ranks_by_onnxruntime_in_int8(folder, make_folder):
    pytest.importorskip("onnxruntime")
    build, keywords = TINY["rerank_onnx.yaml"]
    run("rerank_onnx.yaml", make_folder(build, **keywords))
    assert any(Path("onnx").rglob("*.onnx"))
    for scores in read_run("reranked.trec").values():
        assert tuple(from_scores(list(scores.values()))) == tuple(range(len(scores)))

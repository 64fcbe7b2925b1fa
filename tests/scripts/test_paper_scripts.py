"""The scripts of the papers: every command that they run is one that our drivers take."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tevatron_distill.arguments import parse_arguments
from tevatron_distill.arguments.data import DatasetArguments, TrainDataArguments
from tevatron_distill.arguments.evaluate import EvaluateArguments
from tevatron_distill.arguments.model import LayoutArguments, ModelArguments
from tevatron_distill.arguments.rerank import RerankArguments
from tevatron_distill.arguments.teach import TeachArguments
from tevatron_distill.training_arguments import DistillTrainingArguments

SCRIPTS = Path(__file__).parents[2] / "scripts"
PAPERS = {
    "colbert.sh": ["candidates.jsonl", "qrels.txt"],
    "pairrm.sh": [],
    "summareranker.sh": [],
    "simcls.sh": [],
}
DRIVERS = {
    "teach": (DatasetArguments, TeachArguments),
    "train": (ModelArguments, LayoutArguments, TrainDataArguments, DistillTrainingArguments),
    "rerank": (ModelArguments, LayoutArguments, DatasetArguments, RerankArguments, DistillTrainingArguments),
    "evaluate": (EvaluateArguments,),
}
STUB = """#!{python}
import json, sys
with open({log!r}, "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
"""


@pytest.fixture
def run_script(tmp_path):
    """Run a script with a stand-in for every program that would train or rank; give the drivers' command lines."""
    programs = tmp_path / "bin"
    programs.mkdir()
    log = tmp_path / "log.jsonl"
    for name in ("python", "deepspeed", "torchrun"):
        path = programs / name
        path.write_text(STUB.format(python=sys.executable, log=str(log)))
        path.chmod(0o755)
    for name in ("mixinstruct", "unified_feedback"):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for part in ("all_train", "all_val", "all_test"):
            (folder / f"{part}.json").write_text("[]")

    def run(name: str, *words: str, **variables: str) -> list[tuple[str, list[str]]]:
        text = (SCRIPTS / name).read_text().replace('cd "$(dirname "$0")/.."', "")
        copy = tmp_path / "scripts" / name
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(text)
        (copy.parent / "train_ranker.sh").write_text((SCRIPTS / "train_ranker.sh").read_text())
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(
            ["bash", str(copy), *words], cwd=tmp_path, check=True, env={**os.environ, "PATH": path, **variables}
        )
        calls = []
        for line in log.read_text().splitlines():
            argv = json.loads(line)
            place = next(number for number, word in enumerate(argv) if word.startswith("tevatron_distill.driver."))
            calls.append((argv[place].rpartition(".")[2], argv[place + 1 :]))
        return calls

    return run


def without_gpu(words: list[str]) -> list[str]:
    """The flags that need a GPU or an extra, left out."""
    line = " ".join(json.dumps(word) for word in words)
    for flag in ('"--deepspeed" "[^"]*"', '"--bf16"( "true")?', '"--fp16"'):
        line = re.sub(flag, "", line)
    return [json.loads(word) for word in re.findall(r'"(?:[^"\\]|\\.)*"', line)] + ["--use_cpu"]


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("name", PAPERS)
def test_every_command_of_a_papers_script_is_one_of_ours(name, run_script):
    calls = run_script(name, *PAPERS[name])
    assert "train" in [verb for verb, _ in calls]
    for verb, words in calls:
        flags = without_gpu(words) if verb in ("train", "rerank") else words
        parse_arguments(flags, *DRIVERS[verb], prog=verb)


@pytest.mark.parametrize("ranker", ["PairRanker", "Pairranker", "Summaranker", "SummaReranker", "SimCLS"])
def test_blenders_variables_are_taken(ranker, run_script):
    variables = {"ranker": ranker, "dataset": "mixinstruct", "candidate_model": "vicuna,alpaca", "n_candidates": "5"}
    calls = dict(run_script("train_ranker.sh", TORCHRUN_CMD="torchrun --nproc_per_node 2 -m", **variables))
    parsed = parse_arguments(without_gpu(calls["train"]), *DRIVERS["train"], prog="train")
    data_args = parsed[2]
    assert (data_args.candidate_model, data_args.n_candidates) == ("vicuna,alpaca", 5)
    assert data_args.dataset_path == "data/mixinstruct/all_train.json"


def test_a_ranker_trained_on_one_dataset_ranks_another(run_script):
    calls = run_script(
        "train_ranker.sh", dataset="mixinstruct", do_inference="True", checkpoint_trained_dataset="unified_feedback"
    )
    assert [verb for verb, _ in calls] == ["rerank", "evaluate"]
    words = calls[0][1]
    assert words[words.index("--model_name_or_path") + 1].endswith("train_unified_feedback_PairRanker")
    assert words[words.index("--dataset_path") + 1] == "data/mixinstruct/all_test.json"


def test_every_script_of_a_paper_says_whose_figure_it_names():
    for name in PAPERS:
        header = (SCRIPTS / name).read_text().partition("set -euo")[0]
        assert "nobody has reached" in " ".join(header.replace("#", "").split()), name
        assert "arXiv" in header

"""Every command in the README, beside the scripts and in the recipes is one that the programs take; the road is run."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
from pathlib import Path

import pytest
from conftest import build_bert, build_t5
from documented import ROOT, Block, blocks, commands, comments, driver_call, filled_in
from transformers import TrainingArguments

from tevatron_distill.driver.main import VERBS
from tevatron_distill.driver.main import main as tevatron_distill
from tevatron_distill.formats import load_candidates
from tevatron_distill.formats.runs import write_run

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "scripts").glob("*.md"))]
SHELL = [block for path in DOCUMENTS for block in blocks(path) if block.language == "bash"]
SHELL += [block for path in sorted((ROOT / "scripts" / "recipes").iterdir()) for block in comments(path)]
PYTHON = [block for block in blocks(ROOT / "README.md") if block.language == "python"]
NEEDED = {
    "teach": {"--dataset_path": "rows.jsonl", "--output_path": "groups.jsonl", "--model_name_or_path": "model"},
    "train": {"--dataset_path": "groups.jsonl", "--output_dir": "student", "--model_name_or_path": "model"},
    "rerank": {"--dataset_path": "r.jsonl", "--rerank_output_path": "r.tsv", "--model_name_or_path": "model"},
}
"""What a ``…`` in a command stands for, at the least."""
FOR_GPUS = {"--deepspeed": 1, "--fsdp": 1, "--fsdp_config": 1, "--bf16": 0, "--fp16": 0}
"""Flags that need a GPU, an extra or a launcher, with their number of words."""


class ReadError(Exception):
    """The command line was read without complaint."""


def without_gpu(verb: str, words: list[str]) -> list[str]:
    kept: list[str] = []
    skipped = 0
    for word in words:
        if skipped:
            skipped -= 1
        elif word in FOR_GPUS:
            skipped = FOR_GPUS[word]
        else:
            kept.append(word)
    return [*kept, "--use_cpu"] if verb in ("train", "rerank") else kept


def read_only(verb: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a driver read its command line, and go no further."""
    assert verb in VERBS
    driver = importlib.import_module(f"tevatron_distill.driver.{verb}")
    if verb == "doctor":  # has no dataclass of flags
        return
    parse_arguments = driver.parse_arguments

    def read(*arguments, **keywords):
        parse_arguments(*arguments, **keywords)
        raise ReadError

    monkeypatch.setattr(driver, "parse_arguments", read)
    with pytest.raises(ReadError):
        driver.main(words)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.place)
def test_a_documented_command_is_taken(block: Block, tmp_path, monkeypatch):
    found = commands(block.text, tmp_path)
    assert found, "a block of shell that runs nothing"
    monkeypatch.chdir(ROOT)
    scripts = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "scripts").glob("*.py"))
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    for words in found:
        call = driver_call(words)
        if call is not None:
            verb, flags = call
            read_only(verb, without_gpu(verb, filled_in(flags, NEEDED.get(verb, {}))), monkeypatch)
            monkeypatch.undo()
            monkeypatch.chdir(ROOT)
        elif words[0] in ("python", "bash"):
            assert (ROOT / words[1]).is_file(), words
            for flag in (word for word in words[2:] if word.startswith("--")):
                assert f'"{flag}"' in scripts, f"{words[1]} has no {flag}"
        elif words[0] == "pip":
            for extra in re.findall(r"[\w-]+", "".join(re.findall(r"\[(.*)\]", " ".join(words)))):
                assert f'"{extra}": [' in setup, f"there is no extra {extra}"


def write_collection() -> None:
    """The files that the road starts from, and a run of somebody else's."""
    texts = {f"d{number}": f"red apples number {number} " + "green " * (number % 3) for number in range(12)}
    corpus = [json.dumps({"docid": docid, "title": "", "text": text}) for docid, text in texts.items()]
    queries = {f"q{number}": f"red number {number} green" for number in range(4)}
    Path("corpus.jsonl").write_text("\n".join(corpus))
    Path("queries.tsv").write_text("".join(f"{query_id}\t{query}\n" for query_id, query in queries.items()))
    rows = [json.dumps({"query_id": query_id, "query": query}) for query_id, query in queries.items()]
    Path("queries.jsonl").write_text("\n".join(rows))
    Path("qrels.txt").write_text("".join(f"q{number} 0 d{number} 1\n" for number in range(4)))
    write_run("run.tsv", {query_id: {f"d{n}": 12.0 - n for n in range(12)} for query_id in queries})


def write_candidates_with_metrics() -> None:
    """LLM-Blender's rows, and a run of their candidates."""
    candidates = [
        {"model": f"m{number}", "decoding_method": "top_p", "text": f"answer {number}", "scores": {"bartscore": number}}
        for number in range(3)
    ]
    row = {"id": "1", "instruction": "Say a number.", "input": "", "output": "answer 2", "candidates": candidates}
    for name in ("all_train.json", "all_test.json"):
        Path(name).write_text(json.dumps([row, {**row, "id": "2"}]))
    listed = load_candidates("all_test.json")
    write_run("run.tsv", {one.query_id: {p.docid: -float(n) for n, p in enumerate(one.passages)} for one in listed})
    write_run(
        "run.trec", {f"q{number}": {f"d{n}": 12.0 - n for n in range(12)} for number in range(4)}, "trec", "bm25", True
    )


FOR_TESTS = {
    "train": ["--use_cpu", "--max_steps", "2", "--report_to", "none", "--save_strategy", "no"],
    "rerank": ["--use_cpu"],
    "teach": ["--dtype", "float32"],
}


NOT_RUN = {"…", "lucene", "hybrid", "--push_to_hub"}
"""Words of commands that are read only: they leave something out, or need a server, Java or other runs."""


@pytest.fixture
def models(make_folder) -> dict[str, str]:
    return {
        "google/flan-t5-xl": str(make_folder(build_t5)),
        "sentence-transformers/all-MiniLM-L6-v2": str(make_folder(build_bert)),
    }


def run_section(section: str, folder: Path, models: dict[str, str]) -> list[str]:
    """Run a section's commands one after the other; gives their verbs."""
    verbs = []
    for number, block in enumerate(block for block in SHELL if block.section == section):
        for words in commands(block.text, folder / f"shell-{number}"):
            call = driver_call(words)
            if call is None or NOT_RUN.intersection(words):
                continue
            verb, flags = call
            flags = [models.get(word, word) for word in flags]
            tevatron_distill([verb, *flags, *FOR_TESTS.get(verb, []), "--overwrite_output_dir"])
            verbs.append(verb)
    return verbs


def test_the_road_of_the_readme_runs_from_its_first_command_to_its_last(tmp_path, monkeypatch, models, capsys):
    monkeypatch.chdir(tmp_path)
    write_collection()
    verbs = run_section("The road on your own collection", tmp_path, models)
    assert list(dict.fromkeys(verbs))[:6] == ["retrieve", "teach", "train", "rerank", "evaluate", "convert"]
    assert "nDCG@10" in capsys.readouterr().out
    names = {"run.trec", "rerank_input.jsonl", "groups.jsonl", "teacher.trec", "student", "reranked.tsv", "report.html"}
    assert names <= {path.name for path in tmp_path.iterdir()}
    # what the README goes on with from Python, in the same folder
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    bert = models["sentence-transformers/all-MiniLM-L6-v2"]
    words = f"--model_name_or_path {bert} --student pair_ranker --dataset_path groups.jsonl --output_dir pair"
    tevatron_distill(["train", *words.split(), *FOR_TESTS["train"]])
    names: dict[str, object] = {"__name__": "readme"}
    for block in PYTHON:
        text = block.text.replace("llm-blender/PairRM-hf", "pair").replace(
            "sentence-transformers/all-MiniLM-L6-v2", bert
        )
        text = text.replace('TrainingArguments("student")', 'TrainingArguments("student", use_cpu=True, max_steps=2)')
        exec(compile(text, block.place, "exec"), names)


def test_rows_of_other_projects_are_converted_as_the_readme_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_collection()
    Path("run.tsv").unlink()
    write_candidates_with_metrics()
    assert run_section("Files", tmp_path, {}) == ["convert", "convert", "evaluate"]


def test_every_flag_in_the_prose_is_known():
    known = (ROOT / "tevatron_distill" / "arguments" / "aliases.py").read_text(encoding="utf-8")
    for path in [*(ROOT / "tevatron_distill").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]:
        known += path.read_text(encoding="utf-8")
    theirs = {field.name for field in dataclasses.fields(TrainingArguments)}
    others = {"num_gpus", "nproc_per_node", "nnodes", "rdzv_endpoint", "port", "use_cpu", "help", "version"}
    for path in DOCUMENTS:
        for block in re.findall(r"`[^`\n]*`", re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)):
            for flag in re.findall(r"(?<![\w-])--([a-z]\w+)", block):
                assert flag in theirs | others or re.search(rf"\b{flag}\b", known), f"{path.name}: --{flag}"

"""One file of a teacher's groups trains every student, which then ranks in the teacher's order, through the drivers."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import WORDS, build_bert, build_causal, build_t5

from tevatron_distill.driver import rerank, train
from tevatron_distill.formats.groups import group_to_line
from tevatron_distill.formats.runs import read_run
from tevatron_distill.permutation import from_scores
from tevatron_distill.schema import Group, Passage
from tevatron_distill.students import STUDENTS

KINDS: dict[str, tuple[str, Callable[..., Path], tuple[object, ...], tuple[str, ...]]] = {
    "cross_encoder": ("cross_encoder", build_bert, (), ("--loss", "rank_net")),
    "yes_token": ("yes_token", build_causal, ("llama",), ("--loss", "rank_net")),
    "yes_token, T5": ("yes_token", build_t5, (), ("--loss", "rank_net")),
    "colbert": ("colbert", build_bert, (), ("--loss", "rank_net", "--temperature", "0.2")),
    "llm_ranker": ("llm_ranker", build_causal, ("qwen3",), ("--loss", "rank_net")),
    "simcls": ("simcls", build_bert, (), ("--loss", "margin_rank")),
    "summa_reranker": ("summa_reranker", build_bert, (), ("--loss", "list_mle")),
    "pair_ranker": ("pair_ranker", build_bert, (), ("--loss", "rank_net")),
    "pair_ranker, causal": ("pair_ranker", build_causal, ("llama",), ("--loss", "pair_bce")),
    "listwise": ("listwise", build_causal, ("llama",), ("--objective", "combined", "--max_steps", "140")),
}


def groups() -> list[Group]:
    """Six queries with five passages each; the teacher likes red."""
    chance = random.Random(0)
    made = []
    for number in range(6):
        reds = [0, 2, 4, 6, 8]
        chance.shuffle(reds)
        texts = [" ".join(["red"] * red + chance.sample(WORDS[2:], 9 - red)) for red in reds]
        passages = tuple(Passage(f"d{number}{place}", text) for place, text in enumerate(texts))
        values = tuple(float(red) for red in reds)
        metrics = {"reds": values, "share": tuple(value / 9 for value in values)}
        made.append(Group(f"q{number}", WORDS[number], passages, from_scores(values), 5, metrics=metrics))
    return made


def test_the_table_has_every_student():
    assert {student for student, *_ in KINDS.values()} == set(STUDENTS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_learns_a_groups_file_and_ranks_it_back_in_the_teachers_order(kind, make_folder, tmp_path):
    student, build, arguments, flags = KINDS[kind]
    taught = groups()
    path = tmp_path / "groups.jsonl"
    path.write_text("".join(group_to_line(group) + "\n" for group in taught))
    lengths = ("--rerank_max_len", "1000" if student == "listwise" else "128")
    train.main(
        [
            *("--model_name_or_path", str(make_folder(build, *arguments)), "--student", student),
            *("--dataset_path", str(path), "--train_group_size", "5", "--per_device_train_batch_size", "6"),
            *("--learning_rate", "3e-3", "--max_steps", "80", "--lr_scheduler_type", "constant", "--use_cpu"),
            *("--save_strategy", "no", "--report_to", "none", "--output_dir", str(tmp_path / "out"), *lengths, *flags),
        ]
    )
    settings = json.loads((tmp_path / "out" / "reranker_config.json").read_text())
    assert settings["student"] == student
    rerank.main(
        [
            *("--model_name_or_path", str(tmp_path / "out"), "--dataset_path", str(path), "--use_cpu"),
            *("--rerank_output_path", str(tmp_path / "run.tsv"), "--output_dir", str(tmp_path / "temp")),
        ]
    )
    run = read_run(tmp_path / "run.tsv")
    expected = {group.query_id: [group.passages[position].docid for position in group.permutation] for group in taught}
    assert {query_id: list(scores) for query_id, scores in run.items()} == expected

"""What colbert, simcls and summa_reranker have of their own on the road: conventions, metrics, gold texts, vectors."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tevatron_distill.driver.rerank import main as rerank
from tevatron_distill.driver.train import main as train
from tevatron_distill.formats.groups import group_to_line
from tevatron_distill.formats.runs import read_run

KINDS = {
    "summa_reranker by metrics": ("--loss", "metric_bce", "--using_metrics", "bleu,rouge"),
    "summa_reranker by all metrics": ("--loss", "metric_bce"),
    "simcls with a gold text": ("--loss", "margin_rank"),
    "colbert of open-retrievals": ("--colbert_convention", "open_retrievals", "--use_inbatch_negative"),
    "colbert of pylate": ("--colbert_convention", "pylate", "--colbert_dim", "32", "--loss", "list_net"),
}
LEARN_THE_BEST = ("summa_reranker by metrics", "summa_reranker by all metrics", "colbert of open-retrievals")


@pytest.fixture
def rows(tmp_path, toy_groups):
    """Two groups with metrics and references, and the passages of one of them to be ranked."""
    scored = []
    for group in toy_groups[:2]:
        quality = tuple(-float(rank) for rank in group.ranks())
        scored.append(replace(group, metrics={"bleu": quality, "rouge": quality}, reference="the gold text"))
    group = scored[1]
    groups, candidates = tmp_path / "groups.jsonl", tmp_path / "rerank_input.jsonl"
    groups.write_text("".join(group_to_line(one) + "\n" for one in scored))
    with candidates.open("w") as file:
        for passage in group.passages:
            row = {"query_id": group.query_id, "query": group.query, "docid": passage.docid, "text": passage.text}
            file.write(json.dumps({**row, "title": passage.title, "score": 1.0}) + "\n")
    return groups, candidates, [group.passages[place].docid for place in group.permutation]


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_and_ranks_in_the_teachers_order(kind, rows, tmp_path, bert_folder):
    groups, candidates, expected = rows
    train(
        [
            *("--student", kind.split()[0], "--model_name_or_path", str(bert_folder), "--dataset_path", str(groups)),
            *("--output_dir", str(tmp_path / "student"), "--use_cpu", "--max_steps", "80", "--learning_rate", "2e-3"),
            *("--per_device_train_batch_size", "2", "--save_strategy", "no", "--report_to", "none", *KINDS[kind]),
        ]
    )
    flags = ["--model_name_or_path", str(tmp_path / "student"), "--dataset_path", str(candidates), "--use_cpu"]
    rerank([*flags, "--output_dir", str(tmp_path), "--rerank_output_path", str(tmp_path / "run.txt")])
    scores = read_run(tmp_path / "run.txt")["q1"]
    found = sorted(scores, key=lambda docid: -scores[docid])
    assert found[0] == expected[0]
    if kind not in LEARN_THE_BEST:
        assert found == expected


def test_stored_vectors_rank_alike_from_the_second_run_on(rows, tmp_path, bert_folder):
    _, candidates, _ = rows
    runs = []
    for number in range(3):
        run = tmp_path / f"run{number}.txt"
        vectors = ("--passage_vectors_path", str(tmp_path / "vectors")) if number else ()
        rerank(
            [
                *("--student", "colbert", "--model_name_or_path", str(bert_folder), "--dataset_path", str(candidates)),
                *("--use_cpu", "--output_dir", str(tmp_path), "--rerank_output_path", str(run), *vectors),
            ]
        )
        runs.append(read_run(run)["q1"])
    assert runs[1] == runs[2]
    assert runs[1] == pytest.approx(runs[0], abs=0.05)  # cosines over a temperature of 0.02

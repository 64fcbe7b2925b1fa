"""Rows of other projects on the whole road: train, rerank, evaluate, without a converter in between."""

from __future__ import annotations

import json
import logging
import random

import pytest

from tevatron_distill.driver.evaluate import main as evaluate
from tevatron_distill.driver.rerank import main as rerank
from tevatron_distill.driver.train import main as train
from tevatron_distill.formats.runs import read_run


def blender_rows(size, models, seed):
    """The better candidate repeats more of the instruction's colours."""
    generator = random.Random(seed)
    rows = []
    for number in range(size):
        colour = generator.choice(["red", "green", "blue"])
        counts = generator.sample(range(len(models)), len(models))
        candidates = [
            {
                "model": model,
                "decoding_method": "beam",
                "text": " ".join([colour] * count + ["dog"] * (len(models) - count)),
                "scores": {"bartscore": count - 3.0, "bleu": 10.0 * count},
            }
            for model, count in zip(models, counts, strict=True)
        ]
        rows.append({"id": number, "instruction": colour, "input": "", "output": colour, "candidates": candidates})
    return rows


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps(blender_rows(40, ["m1", "m2", "m3"], 1)))
    (tmp_path / "b.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in blender_rows(12, ["n1", "n2", "n3", "n4", "skip"], 2))
    )
    return tmp_path


def test_a_ranker_trained_on_one_mix_of_models_ranks_another(work, bert_folder, capsys, caplog):
    caplog.set_level(logging.INFO)
    run_words(
        train,
        f"--model_name_or_path {bert_folder} --student cross_encoder --dataset_path a.json --output_dir student "
        "--using_metrics bartscore --max_train_data_size 30 --eval_dataset_path a.json --max_eval_data_size 3 "
        "--train_group_size 3 --loss rank_net --labels scores --learning_rate 3e-3 --num_train_epochs 15 "
        "--per_device_train_batch_size 5 --use_cpu --save_strategy no --rerank_max_len 32",
    )
    assert "a.json: read as llm_blender" in caplog.text
    assert "read 30 groups from a.json" in caplog.text
    filters = "--candidate_model n1,n2,n3,n4 --candidate_decoding_method beam --n_candidates 4"
    run_words(
        rerank,
        "--model_name_or_path student --dataset_path b.jsonl --rerank_output_path run --max_predict_data_size 10 "
        f"--use_cpu {filters}",
    )
    run = read_run("run")
    assert len(run) == 10
    assert {docid for scores in run.values() for docid in scores} == {f"n{n}/beam" for n in range(1, 5)}
    capsys.readouterr()
    run_words(evaluate, f"--metrics_path b.jsonl --run_path run --using_metrics bartscore {filters}")
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()[:4]}
    assert float(lines["random"][0]) < float(lines["run"][0]) <= float(lines["oracle"][0])
    assert "2 of 12 queries are missing from a run" in caplog.text


def run_words(driver, words):
    driver(words.split())

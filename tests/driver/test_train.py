from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from conftest import build_causal
from safetensors.torch import load_file

from tevatron_distill.driver.train import main, training_files
from tevatron_distill.formats.groups import group_to_line
from tevatron_distill.reranker import Reranker
from tevatron_distill.schema import InputError

QUICK = ["--use_cpu", "--max_steps", "2", "--per_device_train_batch_size", "2", "--rerank_max_len", "64"]


@pytest.fixture
def groups_path(tmp_path, toy_groups):
    path = tmp_path / "groups.jsonl"
    path.write_text("".join(group_to_line(group) + "\n" for group in toy_groups), encoding="utf-8")
    return path


@pytest.fixture
def tevatron_path(tmp_path, toy_groups):
    path = tmp_path / "tevatron.jsonl"
    with open(path, "w", encoding="utf-8") as file:
        for group in toy_groups:
            rows = [{"docid": p.docid, "title": p.title, "text": p.text} for p in group.passages]
            row = {"query_id": group.query_id, "query": group.query}
            row |= {"positive_passages": rows[:1], "negative_passages": rows[1:]}
            file.write(json.dumps(row) + "\n")
    return path


def flags(model, dataset, output, *more):
    named = {"--model_name_or_path": model, "--dataset_path": dataset, "--output_dir": output}
    return [*QUICK, *[str(word) for pair in named.items() for word in pair], *[str(word) for word in more]]


def test_without_student_and_loss_it_is_rankllamas_training(llama_folder, tevatron_path, tmp_path):
    main(
        [
            *flags(llama_folder, tevatron_path, tmp_path / "out", "--append_eos_token", "--train_group_size", 3),
            *("--query_prefix", "query: ", "--passage_prefix", "document: "),
        ]
    )
    settings = json.loads((tmp_path / "out" / "reranker_config.json").read_text())
    assert settings["student"] == "cross_encoder"
    assert settings["reranker_model_type"] == "sequence_classification"
    assert (settings["query_prefix"], settings["append_eos_token"]) == ("query: ", True)
    record = json.loads((tmp_path / "out" / "run_config.json").read_text())
    assert record["arguments"]["loss"] == "softmax_ce"
    assert record["complete"] is True
    teachers = [{"name": "judgements", "groups": 4}]
    assert record["report"]["data"] == {"groups": 4, "passages": 16, "teachers": teachers}
    scores = Reranker.from_pretrained(str(tmp_path / "out")).compute_score([["red", "red one"], ["red", "two"]])
    assert len(scores) == 2


@pytest.mark.parametrize("student", ["cross_encoder", "colbert"])
def test_an_encoder_learns_from_permutations(bert_folder, groups_path, tmp_path, student):
    main(flags(bert_folder, groups_path, tmp_path / "out", "--student", student, "--loss", "rank_net"))
    before, after = (load_file(folder / "model.safetensors") for folder in (bert_folder, tmp_path / "out"))
    name = next(name for name in after if name.endswith("layer.0.attention.self.value.weight"))
    assert not torch.equal(after[name], before[name.removeprefix("bert.")])


@pytest.mark.parametrize("folder", ["llama_folder", "t5_folder"])
def test_a_language_model_learns_through_its_yes_row(folder, groups_path, tmp_path, request):
    path = request.getfixturevalue(folder)
    more = ("--student", "yes_token", "--loss", "list_net", "--rerank_max_len", 128)
    main(flags(path, groups_path, tmp_path / "out", *more))
    assert json.loads((tmp_path / "out" / "reranker_config.json").read_text())["prompt"] == "instructdistill"


def test_one_json_file_stands_for_the_command_line(bert_folder, groups_path, tmp_path):
    values = {
        "model_name_or_path": str(bert_folder),
        "dataset_path": str(groups_path),
        "output_dir": str(tmp_path / "out"),
        "student": "colbert",
        "loss": "kl",
        "labels": "auto",
        "use_cpu": True,
        "max_steps": 1,
    }
    path = tmp_path / "train.json"
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match="teacher's scores"):
        main([str(path)])
    path.write_text(json.dumps(values | {"loss": "rank_nett"}))
    with pytest.raises(InputError, match=r"train\.json: loss: invalid choice: 'rank_nett'"):
        main([str(path)])
    path.write_text(json.dumps(values | {"los": "rank_net"}))
    with pytest.raises(InputError, match=r"unknown key 'los' \(did you mean loss\?\)"):
        main([str(path)])


def test_evaluation_during_training_reports_ndcg_by_judgements(bert_folder, groups_path, toy_groups, tmp_path):
    qrels = tmp_path / "qrels.txt"
    qrels.write_text("".join(f"{group.query_id} 0 {group.passages[-1].docid} 1\n" for group in toy_groups))
    more = ("--student", "colbert", "--loss", "rank_net", "--eval_dataset_path", groups_path)
    best = ("--load_best_model_at_end", "--metric_for_best_model", "nDCG@10", "--early_stopping_patience", 3)
    steps = ("--eval_strategy", "steps", "--eval_steps", 1, "--save_steps", 1, "--eval_qrels_path", qrels)
    main(flags(bert_folder, groups_path, tmp_path / "out", *more, *steps, *best))
    history = json.loads((tmp_path / "out" / "run_config.json").read_text())["report"]["log_history"]
    assert len([entry["eval_nDCG@10"] for entry in history if "eval_nDCG@10" in entry]) == 2


def test_tokenising_in_other_processes_changes_no_weight(bert_folder, groups_path, tmp_path):
    weights = []
    for workers in ("0", "2"):
        more = ("--dataloader_num_workers", workers, "--num_train_epochs", "2", "--train_group_size", "3")
        main(flags(bert_folder, groups_path, tmp_path / workers, *more))
        weights.append(load_file(tmp_path / workers / "model.safetensors"))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_lora_adapter_is_saved_with_its_head_and_loads_by_itself(make_folder, tevatron_path, tmp_path):
    base = make_folder(build_causal, "llama")
    main(flags(base, tevatron_path, tmp_path / "out", "--lora", "--lora_r", 4, "--append_eos_token"))
    weights = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert [name for name in weights if "score" in name]
    assert len(Reranker.from_pretrained(str(tmp_path / "out")).compute_score([["red", "one"], ["red", "two"]])) == 2


def test_a_finished_model_is_not_overwritten_unasked(bert_folder, groups_path, tmp_path):
    command = flags(bert_folder, groups_path, tmp_path / "out", "--student", "colbert", "--loss", "rank_net")
    main(command)
    with pytest.raises(InputError, match=r"finished model.*--overwrite_output_dir"):
        main(command)
    main([*command, "--overwrite_output_dir"])


def test_the_same_command_goes_on_behind_its_last_checkpoint(bert_folder, groups_path, tmp_path):
    command = flags(bert_folder, groups_path, tmp_path / "out", "--student", "colbert", "--loss", "rank_net")
    command += ["--save_strategy", "steps", "--save_steps", "1"]
    main(command)
    whole = load_file(tmp_path / "out" / "model.safetensors")
    record = json.loads((tmp_path / "out" / "run_config.json").read_text())
    (tmp_path / "out" / "run_config.json").write_text(json.dumps(record | {"complete": False}))
    for name in ("model.safetensors", "checkpoint-2"):  # as if killed in the second step
        path = tmp_path / "out" / name
        path.unlink() if path.is_file() else path.rename(tmp_path / name)
    main(command)
    resumed = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.allclose(resumed[name], whole[name], atol=1e-7) for name in whole)
    assert json.loads((tmp_path / "out" / "run_config.json").read_text())["complete"] is True


def test_unfinished_work_of_another_command_is_refused(bert_folder, groups_path, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "run_config.json").write_text(json.dumps({"arguments": {"loss": "kl"}, "inputs": {}, "complete": False}))
    with pytest.raises(InputError, match=r"another command, which differs in .*loss"):
        main(flags(bert_folder, groups_path, output, "--student", "colbert", "--loss", "rank_net"))


def test_a_folder_with_other_files_is_refused(bert_folder, groups_path, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="not this tool's"):
        main(flags(bert_folder, groups_path, tmp_path / "out"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_fp16_without_a_gpu_is_refused(bert_folder, groups_path, tmp_path):
    with pytest.raises(InputError, match="--fp16 needs a GPU"):
        main([*flags(bert_folder, groups_path, tmp_path / "out"), "--fp16"])


def test_patterns_of_files_are_paired_in_sorted_order(tmp_path):
    class Paths:
        permutation_path = None
        dataset_path = str(tmp_path / "rows_*.jsonl")
        teacher_run_path = str(tmp_path / "run_*.trec")

    for name in ("rows_b.jsonl", "rows_a.jsonl", "run_b.trec", "run_a.trec"):
        (tmp_path / name).touch()
    assert [(rows[-12:], run[-10:]) for rows, _, run in training_files(Paths)] == [
        ("rows_a.jsonl", "run_a.trec"),
        ("rows_b.jsonl", "run_b.trec"),
    ]
    (tmp_path / "run_b.trec").unlink()
    with pytest.raises(InputError, match=r"got \[2, 1\]"):
        training_files(Paths)


def test_an_error_of_the_input_is_one_line_and_status_1(bert_folder, tmp_path):
    path = tmp_path / "groups.jsonl"
    path.write_text('{"query_id": "q12", "query": "x", "passages": [{"docid": "1", "text": "a"}], "permutation": [1]}')
    words = [sys.executable, "-m", "tevatron_distill.driver.train", *flags(bert_folder, path, tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert (done.returncode, len(errors)) == (1, 1)
    assert "groups.jsonl:1" in errors[0]
    assert not (tmp_path / "out" / "run_config.json").exists()

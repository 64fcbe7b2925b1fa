"""Checkpoints and adapters become plain folders that score as they did."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from conftest import build_bert, build_causal, build_t5
from safetensors.torch import load_file, save_file
from torch.distributed import checkpoint as distributed_checkpoint

from tevatron_distill import export
from tevatron_distill.driver import export as driver
from tevatron_distill.driver import train
from tevatron_distill.export import checkpoint, rescoring
from tevatron_distill.formats.groups import group_to_line
from tevatron_distill.reranker import Reranker
from tevatron_distill.schema import InputError

PAIRS = [["red", "red one"], ["red", "two"]]


@pytest.fixture
def trained(tmp_path, toy_groups):
    """Train a student of two updates, with a checkpoint after each; returns its folder."""

    def train_one(folder, *flags):
        path = tmp_path / "groups.jsonl"
        path.write_text("".join(group_to_line(group) + "\n" for group in toy_groups), encoding="utf-8")
        words = {"--model_name_or_path": folder, "--dataset_path": path, "--output_dir": tmp_path / "out"}
        train.main(
            [
                *(
                    "--use_cpu",
                    "--max_steps",
                    "2",
                    "--rerank_max_len",
                    "64",
                    "--save_steps",
                    "1",
                    "--report_to",
                    "none",
                ),
                *("--loss", "rank_net", "--learning_rate", "1e-2", *flags),
                *[str(word) for pair in words.items() for word in pair],
            ]
        )
        return tmp_path / "out"

    return train_one


KINDS = {
    "cross_encoder": (build_causal, "cross_encoder"),
    "yes_token": (build_causal, "yes_token"),
    "yes_token, T5": (build_t5, "yes_token"),
    "colbert": (build_bert, "colbert"),
    "pair_ranker": (build_bert, "pair_ranker"),
    "listwise": (build_causal, "listwise"),
}


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")  # pair_ranker's new markers
@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_adapter_scores_as_the_adapter_did(kind, trained, make_folder, tmp_path, caplog):
    build, student = KINDS[kind]
    length = "1000" if student == "listwise" else "128"
    out = trained(make_folder(build), "--student", student, "--lora", "--lora_r", "4", "--rerank_max_len", length)
    caplog.set_level("INFO")
    driver.main(["--merge", "--model_name_or_path", str(out), "--output_dir", str(tmp_path / "merged")])
    assert "scores of a sample differ" in caplog.text
    names = {path.name for path in (tmp_path / "merged").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "reranker_config.json"} <= names
    assert "adapter_config.json" not in names
    merged, adapted = (Reranker.from_pretrained(str(path), device="cpu") for path in (tmp_path / "merged", out))
    passages = ["red one", "two", "a red cat"]
    scores = [dict(reranker.rank("red", passages)) for reranker in (merged, adapted)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_a_merge_that_changes_scores_is_refused_and_nothing_is_left(trained, llama_folder, tmp_path, monkeypatch):
    out = trained(llama_folder, "--student", "yes_token", "--lora", "--lora_r", "4")
    monkeypatch.setattr(rescoring, "TOLERANCE", -1.0)
    with pytest.raises(InputError, match="must score as its source does"):
        export.merge_adapter(str(out), tmp_path / "merged")
    assert not list(tmp_path.glob("merged*"))


def test_a_folder_without_an_adapter_is_not_merged(trained, llama_folder, tmp_path):
    out = trained(llama_folder, "--student", "yes_token")
    with pytest.raises(InputError, match=r"found no adapter_config\.json"):
        export.merge_adapter(str(out), tmp_path / "merged")


def test_a_plain_checkpoint_becomes_a_plain_folder(trained, bert_folder, tmp_path):
    out = trained(bert_folder, "--student", "cross_encoder")
    driver.main(["--checkpoint", str(out / "checkpoint-2"), "--output_dir", str(tmp_path / "plain")])
    names = {path.name for path in (tmp_path / "plain").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "reranker_config.json"} <= names
    assert not names & {"optimizer.pt", "scheduler.pt", "trainer_state.json", "rng_state.pth", "training_args.bin"}
    one, other = (Reranker.from_pretrained(str(path), device="cpu") for path in (tmp_path / "plain", out))
    assert one.compute_score(PAIRS) == pytest.approx(other.compute_score(PAIRS), abs=1e-6)


def test_the_checkpoint_of_an_adapter_stays_an_adapter(trained, llama_folder, tmp_path):
    out = trained(llama_folder, "--student", "yes_token", "--lora", "--lora_r", "4")
    export.export_checkpoint(out / "checkpoint-2", tmp_path / "plain")
    assert (tmp_path / "plain" / "adapter_model.safetensors").is_file()
    one, other = (Reranker.from_pretrained(str(path), device="cpu") for path in (tmp_path / "plain", out))
    assert one.compute_score(PAIRS) == pytest.approx(other.compute_score(PAIRS), abs=1e-6)


def test_fsdps_parts_are_put_together(trained, llama_folder, tmp_path):
    """As FSDP's SHARDED_STATE_DICT leaves them: weights in parts, and config and tokenizer in the folder above."""
    out = trained(llama_folder, "--student", "yes_token")
    parts = out / "checkpoint-3"
    parts.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        distributed_checkpoint.save(
            {"model": load_file(out / "model.safetensors")},
            checkpoint_id=parts / checkpoint.FSDP_WEIGHTS,
            no_dist=True,
        )
        assert export.export_checkpoint(parts, tmp_path / "plain") is None
    one, other = (Reranker.from_pretrained(str(path), device="cpu") for path in (tmp_path / "plain", out))
    assert one.compute_score(PAIRS) == other.compute_score(PAIRS)


def test_weights_in_half_precision_are_compared_in_half_precision(trained, llama_folder, tmp_path):
    out = trained(llama_folder, "--student", "yes_token")
    half = {name: value.bfloat16() for name, value in load_file(out / "model.safetensors").items()}
    source, exported = tmp_path / "half", tmp_path / "whole"
    for folder in (source, exported):
        folder.mkdir()
        checkpoint.copy_descriptions(out, folder)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    save_file(half, source / "model.safetensors", {"format": "pt"})
    save_file(load_file(out / "model.safetensors"), exported / "model.safetensors", {"format": "pt"})
    assert checkpoint.compare(str(source), str(exported)) == 0


def test_an_existing_folder_is_replaced_only_when_asked(trained, bert_folder, tmp_path):
    out = trained(bert_folder, "--student", "cross_encoder")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "thesis.tex").touch()
    words = ["--checkpoint", str(out / "checkpoint-1"), "--output_dir", str(tmp_path / "plain")]
    with pytest.raises(InputError, match="exists already"):
        driver.main(words)
    driver.main([*words, "--overwrite_output_dir"])
    assert not (tmp_path / "plain" / "thesis.tex").exists()


@pytest.mark.parametrize("flags", [[], ["--merge", "--checkpoint", "x", "--model_name_or_path", "y"], ["--merge"]])
def test_flags_that_do_not_say_what_to_export_are_refused(flags):
    with pytest.raises(InputError, match=r"--model_name_or_path STUDENT .*--checkpoint DIR"):
        driver.main([*flags, "--output_dir", "out"])


def test_a_folder_without_weights_is_refused(trained, bert_folder, tmp_path):
    out = trained(bert_folder, "--student", "cross_encoder")
    for path in (out / "checkpoint-2").glob("*.safetensors"):
        path.unlink()
    with pytest.raises(InputError, match="must hold weights"):
        export.export_checkpoint(out / "checkpoint-2", tmp_path / "plain")
    with pytest.raises(InputError, match="found none"):
        export.export_checkpoint(tmp_path / "nowhere", tmp_path / "plain")
    assert not (tmp_path / "plain").exists()


def test_scores_that_are_no_numbers_are_no_match():
    with pytest.raises(InputError, match="nan off"):
        rescoring.check("folder", torch.tensor([1.0]), torch.tensor([float("nan")]))

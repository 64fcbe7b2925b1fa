from __future__ import annotations

import sys

import pytest

from tevatron_distill.schema import InputError
from tevatron_distill.training_arguments import DistillTrainingArguments, loader_workers

ZERO2 = "deepspeed/ds_zero2_config.json"


def test_deepspeed_without_a_launcher_names_both_launchers(tmp_path, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    pytest.importorskip("deepspeed.ops")
    with pytest.raises(InputError, match=r"deepspeed --num_gpus \d+ --module .*torchrun --nproc_per_node"):
        DistillTrainingArguments(str(tmp_path), use_cpu=True, deepspeed=ZERO2)


def test_deepspeed_that_is_not_installed_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(InputError, match=r"tevatron-distill\[deepspeed\]"):
        DistillTrainingArguments(str(tmp_path), use_cpu=True, deepspeed=ZERO2)


def test_chunks_of_no_rows_are_refused(tmp_path):
    with pytest.raises(InputError, match="--row_chunk_size must be at least 1; got 0"):
        DistillTrainingArguments(str(tmp_path), use_cpu=True, row_chunk_size=0)


@pytest.mark.parametrize("tokens", ["-1", "some", "1.5"])
def test_a_budget_is_auto_or_a_number_of_tokens(tokens, tmp_path):
    with pytest.raises(InputError, match=f"--row_chunk_tokens must be auto, 0 or a number of tokens; got {tokens}"):
        DistillTrainingArguments(str(tmp_path), use_cpu=True, row_chunk_tokens=tokens)


def test_a_json_config_gives_the_budget_as_a_number(tmp_path):
    assert DistillTrainingArguments(str(tmp_path), use_cpu=True, row_chunk_tokens=512).row_chunk_tokens == "512"


@pytest.mark.parametrize(("use_cpu", "workers"), [(True, 0), (False, 2)])
def test_texts_are_tokenised_beside_a_gpu_only(use_cpu, workers, tmp_path, monkeypatch):
    assert DistillTrainingArguments(str(tmp_path), use_cpu=True).dataloader_num_workers == 0
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert loader_workers(use_cpu) == workers

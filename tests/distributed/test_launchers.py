"""Launchers as a user starts them, and what they must not do silently."""

from __future__ import annotations

import json

import fsdp_chunks
import pytest
from forked import run_ranks
from launching import REPOSITORY, launch, make_groups, make_models

from tevatron_distill.driver import train
from tevatron_distill.driver.common import run_main

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(700)]

MODULE = "tevatron_distill.driver.train"
ZERO3 = "deepspeed/ds_zero3_config.json"


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """One update of RankLLaMA's training; the folder of the output is to be added."""
    folder = tmp_path_factory.mktemp("launchers")
    groups, models = make_groups(folder / "groups.jsonl"), make_models(folder)
    flags = {"--model_name_or_path": models["llama"], "--dataset_path": groups, "--max_steps": 1}
    flags |= {"--per_device_train_batch_size": 2, "--rerank_max_len": 64, "--report_to": "none"}
    return ["--append_eos_token", *[str(word) for pair in flags.items() for word in pair]]


def test_processes_that_would_train_alone_are_refused_with_the_right_command(words, tmp_path):
    said, failed = run_ranks(
        run_main, (train.main, [*words, "--output_dir", str(tmp_path / "out")]), 2, tmp_path / "said"
    )
    assert failed
    assert "the launcher started 2 processes but training sees 1" in said
    assert "torchrun --nproc_per_node 2 -m tevatron_distill.driver.train --use_cpu" in said
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_fsdp_that_becomes_ddp_is_said_aloud(words, tmp_path):
    flags = ["--use_cpu", "--fsdp", "--output_dir", str(tmp_path / "out")]
    said = launch(["-m", MODULE, *words, *flags], "torchrun")
    assert "--fsdp was asked for, but training runs as DistributedDataParallel" in said


def test_deepspeed_without_a_launcher_names_the_launcher(words, tmp_path):
    flags = ["--use_cpu", "--deepspeed", ZERO3, "--output_dir", str(tmp_path / "out")]
    said, failed = run_ranks(run_main, (train.main, [*words, *flags]), 1, tmp_path / "said")
    assert failed
    assert "--deepspeed needs a launcher" in said
    assert "deepspeed --num_gpus 1 --module tevatron_distill.driver.train" in said


def test_rankllamas_command_trains_under_deepspeed(words, tmp_path):
    """``deepspeed --num_gpus 2 --module …``; ``sitecustomize`` only spares the compilation of an operator."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nif sys.argv and 'local_rank' in ' '.join(sys.argv):\n"
        "    import deepspeed.ops\n    deepspeed.ops.__compatible_ops__['deepspeed_shm_comm'] = False\n"
    )
    flags = ["--module", MODULE, "--use_cpu", "--deepspeed", ZERO3, *words, "--output_dir", str(tmp_path / "out")]
    launch(flags, "deepspeed", PYTHONPATH=f"{tmp_path}:{REPOSITORY}")
    record = json.loads((tmp_path / "out" / "run_config.json").read_text())
    assert record["complete"] is True
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_chunks_are_exact_where_fsdp_parts_the_weights_and_processes_have_unequal_rows(
    bert_classifier_folder, tmp_path
):
    said, failed = run_ranks(fsdp_chunks.main, (str(bert_classifier_folder),), 2, tmp_path / "said")
    assert not failed, said

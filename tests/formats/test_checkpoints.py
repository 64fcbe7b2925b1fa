"""Which checkpoints of HF's Trainer can be gone on from."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from tevatron_distill.formats.checkpoints import check_whole, whats_torn, whole_checkpoints
from tevatron_distill.schema import InputError


def write_checkpoint(folder, step, num_ranks=1):
    """A folder with all files that Trainer writes, in its order."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    save_file({"weight": torch.arange(6.0), "bias": torch.zeros(2)}, path / "model.safetensors", {"format": "pt"})
    (path / "tokenizer.json").write_text("{}")
    torch.save({"state": torch.arange(4.0)}, path / "optimizer.pt")
    torch.save({"last_epoch": step}, path / "scheduler.pt")
    for rank in range(num_ranks):
        torch.save({"cpu": torch.arange(3)}, path / ("rng_state.pth" if num_ranks == 1 else f"rng_state_{rank}.pth"))
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return path


FILES = ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"]


def test_whole_checkpoints_are_found_by_their_steps_whatever_else_is_there(tmp_path):
    for step in (2, 10, 9):
        write_checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-11.tmp").mkdir()
    (tmp_path / "checkpoint-best").mkdir()
    assert whole_checkpoints(tmp_path) == {2, 9, 10}
    assert whole_checkpoints(tmp_path / "nowhere") == set()


@pytest.mark.parametrize("name", FILES)
def test_a_checkpoint_that_lacks_a_file_is_passed_over(tmp_path, name, caplog):
    write_checkpoint(tmp_path, 1)
    (write_checkpoint(tmp_path, 2) / name).unlink()
    assert whole_checkpoints(tmp_path) == {1}
    assert f"checkpoint-2 is passed over: its {name}" in caplog.text


@pytest.mark.parametrize("name", [*FILES, "config.json"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_checkpoint_whose_file_was_cut_anywhere_is_passed_over(tmp_path, name, share):
    path = write_checkpoint(tmp_path, 2) / name
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert whats_torn(path.parent) == name
    assert whole_checkpoints(tmp_path) == set()
    with pytest.raises(InputError, match=rf"whole checkpoint; {name} is missing or torn"):
        check_whole(path.parent)


def test_every_process_must_find_its_random_state(tmp_path):
    path = write_checkpoint(tmp_path, 1, num_ranks=2)
    assert whole_checkpoints(tmp_path, 1, 2) == {1}
    (path / "rng_state_1.pth").unlink()
    assert (whole_checkpoints(tmp_path, 0, 2), whole_checkpoints(tmp_path, 1, 2)) == ({1}, set())
    check_whole(path)  # asked for by name it is taken, as after another number of processes


def test_deepspeeds_folder_stands_for_weights_and_optimizer(tmp_path):
    path = write_checkpoint(tmp_path, 1)
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt"):
        (path / name).unlink()
    (path / "global_step1").mkdir()
    torch.save({}, path / "global_step1" / "mp_rank_00_model_states.pt")
    assert whole_checkpoints(tmp_path) == {1}


def test_an_index_names_the_weights_that_must_be_there(tmp_path):
    path = write_checkpoint(tmp_path, 1)
    part = path / "model-00001-of-00002.safetensors"
    (path / "model.safetensors").rename(part)
    index = {"weight_map": {"weight": part.name, "bias": "model-00002-of-00002.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert whats_torn(path) == "model-00002-of-00002.safetensors"

"""Training that was stopped anywhere ends as if it had not been, in one process and by the same command."""

from __future__ import annotations

import json
import shutil

import pytest
from safetensors.torch import load_file

from tevatron_distill.driver.train import main
from tevatron_distill.formats.groups import group_to_line
from tevatron_distill.schema import InputError
from tevatron_distill.trainer import DistillRerankerTrainer


class StoppedError(Exception):
    pass


@pytest.fixture
def command(tmp_path, toy_groups, bert_classifier_folder):
    path = tmp_path / "groups.jsonl"
    path.write_text("".join(group_to_line(group) + "\n" for group in toy_groups), encoding="utf-8")

    def build(output, *more):
        return [
            *("--model_name_or_path", str(bert_classifier_folder), "--dataset_path", str(path)),
            *("--output_dir", str(output), "--student", "cross_encoder", "--loss", "rank_net", "--use_cpu"),
            *("--rerank_max_len", "48", "--per_device_train_batch_size", "1", "--max_steps", "6"),
            *("--save_strategy", "steps", "--save_steps", "1", "--logging_steps", "1", "--learning_rate", "1e-3"),
            *map(str, more),
        ]

    return build


def same_weights(one, other):
    left, right = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    return left.keys() == right.keys() and all((left[name] == right[name]).all() for name in left)


def losses(folder):
    history = json.loads((folder / "run_config.json").read_text())["report"]["log_history"]
    return [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]


def stop_at_the_last_save(words):
    """Run up to the moment in which all steps are done and the model is about to be saved."""
    plain = DistillRerankerTrainer.save_model

    def save(self, output_dir=None, _internal_call=False):
        if not _internal_call:
            raise StoppedError
        plain(self, output_dir, _internal_call=_internal_call)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DistillRerankerTrainer, "save_model", save)
        with pytest.raises(StoppedError):
            main(words)


@pytest.mark.parametrize("name", ["optimizer.pt", "model.safetensors", "trainer_state.json", "rng_state.pth"])
def test_it_goes_on_from_the_last_whole_checkpoint(command, tmp_path, name, caplog):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    main(command(whole))
    stop_at_the_last_save(command(cut))
    for step in (5, 6):  # 6 was being written, 5 had been torn before
        path = cut / f"checkpoint-{step}" / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    main(command(cut))
    assert f"checkpoint-6 is passed over: its {name} is missing or torn" in caplog.text
    assert same_weights(cut, whole)
    assert losses(cut) == losses(whole)
    assert same_weights(cut / "checkpoint-6", whole / "checkpoint-6")


def test_behind_the_last_checkpoint_no_further_step_is_taken(command, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    main(command(whole))
    stop_at_the_last_save(command(cut))
    main(command(cut))
    assert same_weights(cut, whole)
    assert losses(cut) == losses(whole)
    assert not (cut / "checkpoint-7").exists()


def test_a_torn_checkpoint_that_is_asked_for_is_refused(command, tmp_path):
    main(command(tmp_path / "out", "--max_steps", 2))
    torn = tmp_path / "checkpoint-2"
    shutil.copytree(tmp_path / "out" / "checkpoint-2", torn)
    (torn / "optimizer.pt").unlink()
    with pytest.raises(InputError, match=r"checkpoint-2: .*whole checkpoint; optimizer\.pt is missing or torn"):
        main(command(tmp_path / "other", "--resume_from_checkpoint", torn))


def test_a_kill_in_the_first_write_of_the_record_leaves_no_folder_that_is_refused(command, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run_config.json.tmp").write_text('{"argum')
    main(command(tmp_path / "out", "--max_steps", 1))
    assert not (tmp_path / "out" / "run_config.json.tmp").exists()


def test_weights_that_a_kill_has_left_half_written_are_removed(command, tmp_path):
    stop_at_the_last_save(command(tmp_path / "out", "--max_steps", 2))
    for folder in (tmp_path / "out", tmp_path / "out" / "checkpoint-2"):
        (folder / ".tmpLtzI2z").write_bytes(b"half")
    main(command(tmp_path / "out", "--max_steps", 2))
    assert list((tmp_path / "out").rglob(".tmp*")) == []


def test_early_stopping_goes_on_counting_and_stays_stopped(command, tmp_path, monkeypatch):
    """nDCG never grows here, so that patience 3 ends a training after 1 + 3 evaluations."""
    more = ["--eval_dataset_path", tmp_path / "groups.jsonl", "--eval_strategy", "steps", "--eval_steps", 1]
    more += ["--early_stopping_patience", 3, "--load_best_model_at_end", "--learning_rate", 0]
    more += ["--metric_for_best_model", "teacher_nDCG@10"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    main(command(whole, *more))
    assert [step for step, _ in losses(whole)] == [1, 2, 3, 4]
    step = DistillRerankerTrainer.training_step

    def dies(self, *args, **kwargs):
        if self.state.global_step == 2:
            raise StoppedError
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(DistillRerankerTrainer, "training_step", dies)
        with pytest.raises(StoppedError):
            main(command(cut, *more))
    stop_at_the_last_save(command(cut, *more))
    assert sorted(int(path.name.rpartition("-")[2]) for path in cut.glob("checkpoint-*")) == [1, 2, 3, 4]
    main(command(cut, *more))
    assert losses(cut) == losses(whole)
    assert same_weights(cut, whole)


def test_a_second_process_in_the_same_folder_is_refused(command, tmp_path, monkeypatch):
    step, refused = DistillRerankerTrainer.training_step, []

    def starts_another(self, *args, **kwargs):
        if not refused:
            refused.append(1)
            with pytest.raises(InputError, match="another process is writing this output"):
                main(command(tmp_path / "out"))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(DistillRerankerTrainer, "training_step", starts_another)
    main(command(tmp_path / "out"))
    assert refused
    assert not list((tmp_path / "out").glob("*.lock"))

"""``--report_to``: HF's own callbacks get what training logs, ours included; nothing of ours stands between."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from tevatron_distill.driver import train
from tevatron_distill.formats.groups import group_to_line
from tevatron_distill.training_arguments import TRACKERS


@pytest.mark.parametrize("place", TRACKERS)
def test_losses_and_measures_reach_the_tracker(place, tmp_path, toy_groups, bert_classifier_folder, monkeypatch):
    logged = []

    class Tracker(TrainerCallback):
        def on_log(self, args, state, control, logs, **_):
            logged.append({**logs, "report_to": args.report_to})

    monkeypatch.setitem(sys.modules, place, ModuleType(place))
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, place, Tracker)
    groups = tmp_path / "groups.jsonl"
    groups.write_text("".join(group_to_line(group) + "\n" for group in toy_groups), encoding="utf-8")
    words = "--use_cpu --max_steps 1 --logging_steps 1 --eval_strategy steps --eval_steps 1 --save_strategy no"
    paths = {"--dataset_path": groups, "--eval_dataset_path": groups, "--output_dir": tmp_path / "out"}
    named = [str(word) for pair in paths.items() for word in pair]
    model = ["--model_name_or_path", str(bert_classifier_folder), "--rerank_max_len", "32"]
    train.main([*words.split(), *named, *model, "--report_to", place])
    assert logged[0]["report_to"] == [place]
    assert {"loss", "eval_teacher_nDCG@10"} <= {name for one in logged for name in one}

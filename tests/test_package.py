from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

import tevatron_distill


@pytest.mark.parametrize("name", tevatron_distill.__all__)
def test_every_public_name_loads_from_the_top_and_is_documented(name):
    value = getattr(tevatron_distill, name)
    assert isinstance(value, dict) or value.__doc__
    assert name in dir(tevatron_distill)


def test_importing_the_package_does_not_import_torch():
    words = "import sys, tevatron_distill; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", words], check=True, timeout=60)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Rerankr'"):
        tevatron_distill.Rerankr  # noqa: B018


def test_the_pieces_work_together_from_python(bert_folder, tmp_path, toy_groups):
    from tevatron_distill import (
        DistillRerankerTrainer,
        GroupCollator,
        Reranker,
        TeacherPermutationDataset,
        load_student,
    )

    tokenizer, model, layout = load_student(str(bert_folder), "colbert", options=training_options())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    trainer = DistillRerankerTrainer(
        model=model,
        args=TrainingArguments(str(tmp_path), use_cpu=True, max_steps=2, report_to="none", save_strategy="no"),
        train_dataset=TeacherPermutationDataset(toy_groups, train_group_size=4),
        data_collator=GroupCollator(layout),
        processing_class=tokenizer,
        optimizers=(optimizer, scheduler),
    )
    trainer.train()
    trainer.save_model()
    reranker = Reranker.from_pretrained(str(tmp_path))
    ranked = reranker.rank("red", ["red one two", "seven eight", "red red"])
    assert len(ranked) == 3
    assert len(reranker.encode(["red one"], normalize_embeddings=True)) == 1


def training_options() -> Any:
    from tevatron_distill.students import LoadOptions

    return LoadOptions(training=True)

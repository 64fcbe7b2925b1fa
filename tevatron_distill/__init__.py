"""Distil the ranking of a large language model into a small, fast reranker.

The names here are loaded when they are first used, so that ``import tevatron_distill`` does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tevatron_distill.adapters.pyterrier import pyterrier_transformer
    from tevatron_distill.adapters.trl import RerankerReward
    from tevatron_distill.collator import GroupCollator
    from tevatron_distill.dataset import TeacherPermutationDataset
    from tevatron_distill.export.cross_encoder import load_cross_encoder
    from tevatron_distill.formats import load_candidates, load_groups
    from tevatron_distill.formats.groups import write_groups
    from tevatron_distill.formats.qrels import read_qrels
    from tevatron_distill.formats.runs import read_run, write_run
    from tevatron_distill.losses import LOSSES
    from tevatron_distill.metrics import evaluate
    from tevatron_distill.reranker import Reranker
    from tevatron_distill.reranker.cascade import Cascade
    from tevatron_distill.schema import Candidates, Group, InputError, Passage
    from tevatron_distill.students import STUDENTS, load_student
    from tevatron_distill.teachers import FunctionTeacher
    from tevatron_distill.trainer import DistillRerankerTrainer
    from tevatron_distill.training_arguments import DistillTrainingArguments

__version__ = "0.1.0"

_HOME = {
    "Candidates": "schema",
    "Cascade": "reranker.cascade",
    "DistillRerankerTrainer": "trainer",
    "DistillTrainingArguments": "training_arguments",
    "FunctionTeacher": "teachers",
    "Group": "schema",
    "GroupCollator": "collator",
    "InputError": "schema",
    "LOSSES": "losses",
    "Passage": "schema",
    "Reranker": "reranker",
    "RerankerReward": "adapters.trl",
    "STUDENTS": "students",
    "TeacherPermutationDataset": "dataset",
    "evaluate": "metrics",
    "load_candidates": "formats",
    "load_cross_encoder": "export.cross_encoder",
    "load_groups": "formats",
    "load_student": "students",
    "pyterrier_transformer": "adapters.pyterrier",
    "read_qrels": "formats.qrels",
    "read_run": "formats.runs",
    "write_groups": "formats.groups",
    "write_run": "formats.runs",
}

__all__ = [
    "LOSSES",
    "STUDENTS",
    "Candidates",
    "Cascade",
    "DistillRerankerTrainer",
    "DistillTrainingArguments",
    "FunctionTeacher",
    "Group",
    "GroupCollator",
    "InputError",
    "Passage",
    "Reranker",
    "RerankerReward",
    "TeacherPermutationDataset",
    "evaluate",
    "load_candidates",
    "load_cross_encoder",
    "load_groups",
    "load_student",
    "pyterrier_transformer",
    "read_qrels",
    "read_run",
    "write_groups",
    "write_run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Flags of ``driver.evaluate``."""

from __future__ import annotations

from dataclasses import dataclass, field

from tevatron_distill.schema import InputError


@dataclass
class EvaluateArguments:
    """What is measured against which judgements."""

    run_path: list[str] = field(metadata={"help": "one or more runs; the others are compared with the first"})
    qrels_path: str | None = field(default=None, metadata={"help": "judgements: TREC's four columns or BEIR's three"})
    measures: list[str] = field(
        default_factory=lambda: ["nDCG@10", "RR@10", "R@100"],
        metadata={"help": "ir-measures names, such as nDCG@10 or AP(rel=2)"},
    )
    metrics_path: str | None = field(
        default=None,
        metadata={
            "help": "candidates with metrics (LLM-Blender's rows or groups): the quality of the candidate that a run "
            "puts first, beside oracle, random and best single system, and the agreement with the metrics' order"
        },
    )
    using_metrics: str | None = field(
        default=None,
        metadata={
            "help": "metrics (comma-separated) whose weighted mean is a candidate's score; default "
            "rouge1,rouge2,rougeLsum, or the only one there is"
        },
    )
    per_query: bool = field(default=False, metadata={"help": "also give the value of every query"})
    output_path: str | None = field(default=None, metadata={"help": "also write everything as JSON"})
    overwrite_output_dir: bool = field(default=False, metadata={"help": "replace output that exists"})

    def __post_init__(self) -> None:
        if self.qrels_path is None and self.metrics_path is None:
            raise InputError("one of --qrels_path (judgements) and --metrics_path (candidates with metrics) is needed")
        if self.using_metrics is not None and self.metrics_path is None:
            raise InputError("--using_metrics is for --metrics_path; got it without")

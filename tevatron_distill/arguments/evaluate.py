"""Flags of ``driver.evaluate``."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from tevatron_distill.arguments.data import CandidateArguments
from tevatron_distill.arguments.screens import first
from tevatron_distill.formats.reading import ReadOptions
from tevatron_distill.schema import InputError


@dataclass(kw_only=True)
class EvaluateArguments(CandidateArguments):
    """What is measured against which judgements."""

    run_path: list[str] = field(
        metadata={"help": first("in", "one or more runs; the others are compared with the first")}
    )
    qrels_path: str | None = field(
        default=None,
        metadata={
            "help": first("in", "judgements: TREC's four columns, BEIR's three, or NAME:SPLIT of a dataset, or irds:ID")
        },
    )
    measures: list[str] = field(
        default_factory=lambda: ["nDCG@10", "RR@10", "R@100"],
        metadata={"help": first("how", "ir-measures names, such as nDCG@10 or AP(rel=2)")},
    )
    metrics_path: str | None = field(
        default=None,
        metadata={
            "help": first(
                "in",
                "candidates with metrics (LLM-Blender's rows or groups): the quality of the candidate that a run "
                "puts first, beside oracle, random and best single system, and the agreement with the metrics' order",
            )
        },
    )
    per_query: bool = field(default=False, metadata={"help": first("how", "also give the value of every query")})
    output_path: str | None = field(default=None, metadata={"help": first("out", "also write everything as JSON")})
    overwrite_output_dir: bool = field(default=False, metadata={"help": first("out", "replace output that exists")})

    def __post_init__(self) -> None:
        if self.qrels_path is None and self.metrics_path is None:
            raise InputError("one of --qrels_path (judgements) and --metrics_path (candidates with metrics) is needed")
        for flag in fields(CandidateArguments):
            if self.metrics_path is None and getattr(self, flag.name) != flag.default:
                raise InputError(f"--{flag.name} is for --metrics_path; got it without")

    def reading(self) -> ReadOptions:
        """The flags on candidates as options of the readers."""
        return ReadOptions(**{flag.name: getattr(self, flag.name) for flag in fields(CandidateArguments)})

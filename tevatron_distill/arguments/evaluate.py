"""Flags of ``driver.evaluate``."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class EvaluateArguments:
    """What is measured against which judgements."""

    qrels_path: str = field(metadata={"help": "judgements: TREC's four columns or BEIR's three"})
    run_path: list[str] = field(metadata={"help": "one or more runs; the others are compared with the first"})
    measures: list[str] = field(
        default_factory=lambda: ["nDCG@10", "RR@10", "R@100"],
        metadata={"help": "ir-measures names, such as nDCG@10 or AP(rel=2)"},
    )
    per_query: bool = field(default=False, metadata={"help": "also give the value of every query"})
    output_path: str | None = field(default=None, metadata={"help": "also write everything as JSON"})
    overwrite_output_dir: bool = field(default=False, metadata={"help": "replace output that exists"})

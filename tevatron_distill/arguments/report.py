"""Flags of ``driver.report``."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tevatron_distill.arguments.screens import first
from tevatron_distill.schema import InputError


@dataclass(kw_only=True)
class ReportArguments:
    """What is shown, and how much of it."""

    output_path: str = field(metadata={"help": first("out", "the page (.html)")})
    run_path: list[str] = field(
        metadata={
            "help": first("in", "one or more runs; the first is what the others are compared with (the first stage)")
        }
    )
    qrels_path: str = field(metadata={"help": first("in", "judgements: TREC's four columns or BEIR's three")})
    groups_path: list[str] = field(
        default_factory=list,
        metadata={"help": first("in", "groups whose permutations are shown as further orders (teachers)")},
    )
    run_name: list[str] = field(
        default_factory=list,
        metadata={
            "help": first("how", "names of the runs, then of the groups, in their order; default: the files' names")
        },
    )
    measures: list[str] = field(
        default_factory=lambda: ["nDCG@10", "RR@10", "R@100"],
        metadata={
            "help": first(
                "how", "ir-measures names, such as nDCG@10 or AP(rel=2); the first is the one in the pictures"
            )
        },
    )
    dataset_path: str | None = field(
        default=None,
        metadata={"help": first("in", "candidates with texts, of any dialect; without them, texts of --groups_path")},
    )
    corpus_path: str | None = field(
        default=None,
        metadata={"help": first("in", "collection with the texts that are still missing, as of driver.retrieve")},
    )
    queries_path: str | None = field(
        default=None,
        metadata={"help": first("in", "texts of the queries that are still missing, as of driver.retrieve")},
    )
    train_path: list[str] = field(
        default_factory=list,
        metadata={"help": first("in", "folders (or trainer_state.json files) of trainings, for their curves")},
    )
    seconds_per_query: list[str] = field(
        default_factory=list,
        metadata={"help": "NAME=SECONDS for orders whose run_config.json does not say it; overrides what it says"},
    )
    title: str = field(default="Reranking report", metadata={"help": first("how", "heading of the page")})
    max_queries: int = field(
        default=100, metadata={"help": first("how", "queries in the query view: those that changed most (-1: all)")}
    )
    depth: int = field(default=100, metadata={"help": "passages of each order in the query view, at most"})
    max_megabytes: float = field(
        default=10.0, metadata={"help": "size of the page, at most; long passages are cut to keep it"}
    )
    figures_dir: str | None = field(
        default=None,
        metadata={"help": first("out", "also draw the pictures as PNG files into this folder (extra `plot`)")},
    )
    overwrite_output_dir: bool = field(default=False, metadata={"help": first("out", "replace output that exists")})

    def __post_init__(self) -> None:
        for flag in ("run_path", "measures"):
            if not getattr(self, flag):
                raise InputError(f"--{flag} must name at least one; got none")
        for flag in ("run_path", "groups_path", "measures"):
            values = getattr(self, flag)
            if len(set(values)) < len(values):
                raise InputError(f"--{flag} must name each once; got {' '.join(values)}")
        orders = len(self.run_path) + len(self.groups_path)
        if self.run_name and len(self.run_name) != orders:
            raise InputError(
                f"--run_name must name all {orders} runs and groups, in their order; got {len(self.run_name)} names"
            )
        if len(set(self.run_name)) < len(self.run_name) or not all(name.strip() for name in self.run_name):
            raise InputError(f"--run_name must give names that differ and are not blank; got {self.run_name}")
        if self.depth < 1:
            raise InputError(f"--depth must be at least 1; got {self.depth}")
        if self.max_queries < 1 and self.max_queries != -1:
            raise InputError(f"--max_queries must be at least 1, or -1 for all; got {self.max_queries}")
        if not 0 < self.max_megabytes < math.inf:
            raise InputError(f"--max_megabytes must be above 0; got {self.max_megabytes}")

    def seconds(self) -> dict[str, float]:
        """``{name: seconds a query}`` as given.

        Raises:
            InputError: if one is not ``NAME=SECONDS`` with a time above 0.
        """
        found = {}
        for given in self.seconds_per_query:
            name, _, text = given.rpartition("=")
            try:
                seconds = float(text)
            except ValueError:
                seconds = math.nan
            if not name or not 0 < seconds < math.inf:
                raise InputError(f"--seconds_per_query must be NAME=SECONDS with a time above 0; got {given!r}")
            found[name] = seconds
        return found

"""Flags of reranking alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from tevatron_distill.arguments import check_choice, token_budget
from tevatron_distill.schema import InputError

OUTPUT_FORMATS = ("tevatron", "trec")
NORMALISATIONS = ("zscore", "minmax")


@dataclass
class RerankArguments:
    """What is ranked, and what is written."""

    rerank_output_path: str | None = field(default=None, metadata={"help": "the run that is written"})
    output_format: str = field(
        default="tevatron",
        metadata={"choices": list(OUTPUT_FORMATS), "help": "three columns (qid, docid, score) or TREC's six"},
    )
    depth: int | None = field(default=None, metadata={"help": "only the first candidates of each query (default: all)"})
    batch_tokens: str = field(
        default="auto",
        metadata={
            "help": "tokens of a batch, padding included: a number, or auto: --per_device_eval_batch_size rows of full "
            "length where that is given and not 8, else what is fast on the device"
        },
    )
    passage_vectors_path: str | None = field(
        default=None,
        metadata={
            "help": "colbert, simcls: folder of passage vectors (float16), made by the first run and used by later ones"
        },
    )
    first_stage_weight: float = field(
        default=0.0,
        metadata={"help": "share a of the first stage: (1 - a) * student + a * first stage, each normalised"},
    )
    first_stage_norm: str = field(
        default="zscore",
        metadata={
            "choices": list(NORMALISATIONS),
            "help": "how both are normalised within a query: zscore (mean 0, deviation 1) or minmax (0 to 1)",
        },
    )

    def __post_init__(self) -> None:
        check_choice("output_format", self.output_format, OUTPUT_FORMATS)
        check_choice("first_stage_norm", self.first_stage_norm, NORMALISATIONS)
        if not self.rerank_output_path:
            raise InputError("--rerank_output_path must name the run to write; got none")
        if not 0 <= self.first_stage_weight <= 1:
            raise InputError(f"--first_stage_weight must lie in 0..1; got {self.first_stage_weight}")
        if self.depth is not None and self.depth < 1:
            raise InputError(f"--depth must be at least 1; got {self.depth}")
        token_budget(self.batch_tokens)

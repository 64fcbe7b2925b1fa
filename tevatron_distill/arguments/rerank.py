"""Flags of reranking alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from tevatron_distill.arguments import check_choice, token_budget
from tevatron_distill.arguments.screens import first
from tevatron_distill.reranker.cascade import check_depths
from tevatron_distill.reranker.onnx import BACKENDS, ONNX_DTYPES
from tevatron_distill.schema import InputError

OUTPUT_FORMATS = ("tevatron", "trec")
NORMALISATIONS = ("zscore", "minmax")


@dataclass
class RerankArguments:
    """What is ranked, and what is written."""

    rerank_output_path: str | None = field(default=None, metadata={"help": first("out", "the run that is written")})
    output_format: str = field(
        default="tevatron",
        metadata={
            "choices": list(OUTPUT_FORMATS),
            "help": first("out", "three columns (qid, docid, score) or TREC's six"),
        },
    )
    depth: int | None = field(
        default=None, metadata={"help": first("in", "only the first candidates of each query (default: all)")}
    )
    batch_tokens: str = field(
        default="auto",
        metadata={
            "help": first(
                "how",
                "tokens of a batch, padding included: a number, or auto: --per_device_eval_batch_size rows of full "
                "length where that is given and not 8, else what is fast on the device",
            )
        },
    )
    passage_vectors_path: str | None = field(
        default=None,
        metadata={
            "help": "colbert, simcls: folder of passage vectors (float16), made by the first run and used by later ones"
        },
    )
    backend: str = field(
        default="torch",
        metadata={
            "choices": list(BACKENDS),
            "help": first(
                "how",
                "what computes: torch, or onnx (extra `onnx`; onnxruntime on the CPU; the student is exported the "
                "first time and kept in --cache_dir, default ~/.cache)",
            ),
        },
    )
    onnx_dtype: str = field(
        default="float32",
        metadata={
            "choices": list(ONNX_DTYPES),
            "help": "--backend onnx: float32, or int8, which is faster and rounds scores",
        },
    )
    cascade_name_or_path: list[str] | None = field(
        default=None,
        metadata={
            "help": first(
                "how",
                "smaller students that rank before --model_name_or_path, the first of them all candidates: folders "
                "or names",
            )
        },
    )
    cascade_depth: list[int] | None = field(
        default=None,
        metadata={
            "help": first(
                "how",
                "how many of the best each student behind the first reads, --model_name_or_path being the last; "
                "the others keep their order below",
            )
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
        check_choice("backend", self.backend, BACKENDS)
        check_choice("onnx_dtype", self.onnx_dtype, ONNX_DTYPES)
        if self.onnx_dtype != "float32" and self.backend != "onnx":
            raise InputError(f"--onnx_dtype {self.onnx_dtype} needs --backend onnx; got {self.backend}")
        if self.cascade_name_or_path or self.cascade_depth:
            check_depths(len(self.cascade_name_or_path or ()), self.cascade_depth or ())
        check_choice("first_stage_norm", self.first_stage_norm, NORMALISATIONS)
        if not self.rerank_output_path:
            raise InputError("--rerank_output_path must name the run to write; got none")
        if not 0 <= self.first_stage_weight <= 1:
            raise InputError(f"--first_stage_weight must lie in 0..1; got {self.first_stage_weight}")
        if self.depth is not None and self.depth < 1:
            raise InputError(f"--depth must be at least 1; got {self.depth}")
        token_budget(self.batch_tokens)

"""Flags of the driver that lets a teacher order candidates."""

from __future__ import annotations

from dataclasses import dataclass, field

from tevatron_distill.arguments import check_choice
from tevatron_distill.engines import ENGINES
from tevatron_distill.engines.hf import CHAT_TEMPLATES
from tevatron_distill.loading import DTYPES
from tevatron_distill.prompts import PAIR_PROMPTS
from tevatron_distill.schema import InputError
from tevatron_distill.sorting import SORTS
from tevatron_distill.teachers import TEACHERS


@dataclass
class TeachArguments:
    """Who teaches what, and where the verdicts go."""

    output_path: str = field(metadata={"help": "groups.jsonl that is written: passages and verdict, a query a line"})
    teacher: str = field(
        default="pairwise",
        metadata={
            "choices": list(TEACHERS),
            "help": "`pairwise` asks an engine which of two passages is better, `qrels` takes judgements",
        },
    )
    depth: int = field(default=20, metadata={"help": "candidates of each query that are ordered"})
    run_path: str | None = field(default=None, metadata={"help": "the teacher's own TREC run, to be evaluated"})
    permutation_path: str | None = field(
        default=None, metadata={"help": 'InstructDistill\'s JSON list of "3 > 1 > 2" strings, one a group'}
    )
    qrels_path: str | None = field(default=None, metadata={"help": "judgements of the teacher `qrels`"})
    overwrite_output_dir: bool = field(default=False, metadata={"help": "replace output that is complete"})

    sort: str = field(
        default="allpair",
        metadata={
            "choices": list(SORTS),
            "help": "which pairs are asked: all, those of a bubblesort from the back (PRP-sliding-K), or of a heapsort",
        },
    )
    num_passes: int = field(default=10, metadata={"help": "passes of sliding_window, the K of PRP-sliding-K"})
    window_size: int = field(default=2, metadata={"help": "passages in a window of sliding_window"})
    step_size: int = field(default=1, metadata={"help": "how far the window of sliding_window moves"})
    top_k: int = field(default=10, metadata={"help": "places that heapsort finds; those behind are tied"})
    num_child: int = field(default=1, metadata={"help": "children in a question of heapsort; 1 asks about pairs"})

    engine: str = field(
        default="hf",
        metadata={
            "choices": list(ENGINES),
            "help": "`hf` is a language model in transformers, `similarity` a stand-in for one: a sentence encoder's "
            "similarity mixed with the first stage's score",
        },
    )
    model_name_or_path: str | None = field(default=None, metadata={"help": "the engine's model: hub name or folder"})
    prompt: str = field(default="instructdistill", metadata={"choices": list(PAIR_PROMPTS), "help": "the wording"})
    chat_template: str = field(
        default="auto",
        metadata={
            "choices": list(CHAT_TEMPLATES),
            "help": "`auto` uses the chat template of a decoder that has one, `never` the published plain prompt",
        },
    )
    dtype: str = field(
        default="auto", metadata={"choices": list(DTYPES), "help": "precision; `auto` is the checkpoint's"}
    )
    max_length: int = field(default=1024, metadata={"help": "tokens of a prompt; passages are shortened to fit"})
    max_batch_tokens: int = field(default=16384, metadata={"help": "tokens of a batch, padding included"})
    trust_remote_code: bool = field(default=False, metadata={"help": "run code that comes with the model"})
    similarity_weight: float = field(
        default=0.6, metadata={"help": "share of the cosine in the engine `similarity`; the first stage has the rest"}
    )
    similarity_temperature: float = field(
        default=1.0, metadata={"help": "difference in the engine `similarity` that is a preference of .73"}
    )
    queries_per_round: int = field(
        default=32, metadata={"help": "queries that are sorted together, so that batches are full"}
    )
    cache_path: str | None = field(
        default=None, metadata={"help": "SQLite file of all answers; default answer_cache.sqlite beside the output"}
    )

    def __post_init__(self) -> None:
        check_choice("teacher", self.teacher, list(TEACHERS))
        check_choice("sort", self.sort, list(SORTS))
        check_choice("engine", self.engine, list(ENGINES))
        check_choice("prompt", self.prompt, list(PAIR_PROMPTS))
        check_choice("chat_template", self.chat_template, CHAT_TEMPLATES)
        check_choice("dtype", self.dtype, list(DTYPES))
        for flag in ("depth", "queries_per_round", "max_length", "max_batch_tokens", "num_passes", "top_k"):
            if getattr(self, flag) < 1:
                raise InputError(f"--{flag} must be at least 1; got {getattr(self, flag)}")
        if self.teacher == "qrels":
            if self.qrels_path is None:
                raise InputError("--teacher qrels needs --qrels_path")
            return
        self._check_pairwise()

    def _check_pairwise(self) -> None:
        if self.qrels_path is not None:
            raise InputError("--qrels_path is for --teacher qrels; --teacher pairwise asks an engine")
        if self.model_name_or_path is None:
            raise InputError(f"--engine {self.engine} needs --model_name_or_path")
        if self.sort == "sliding_window" and (self.window_size, self.step_size) != (2, 1):
            raise InputError(
                "--teacher pairwise compares two passages: --window_size must be 2 and --step_size 1; "
                f"got {self.window_size} and {self.step_size}"
            )
        if self.sort == "heapsort" and self.num_child != 1:
            raise InputError(f"--teacher pairwise compares two passages: --num_child must be 1; got {self.num_child}")
        if not 0.0 <= self.similarity_weight <= 1.0 or not self.similarity_temperature > 0.0:
            raise InputError(
                "--similarity_weight must lie in 0..1 and --similarity_temperature above 0; "
                f"got {self.similarity_weight} and {self.similarity_temperature}"
            )

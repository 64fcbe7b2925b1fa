"""Flags for the rows that are read: shared by training and reranking, and those of training alone."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from tevatron_distill.arguments import check_choice
from tevatron_distill.arguments.screens import first
from tevatron_distill.formats.dialects import FORMATS
from tevatron_distill.formats.reading import ReadOptions
from tevatron_distill.pair_sampling import PAIR_SAMPLINGS
from tevatron_distill.schema import InputError

GROUP_SAMPLINGS = ("auto", "uniform", "top", "one_positive", "top_bottom", "top_random", "random_bottom", "stride")
LABELS = ("auto", "reciprocal", "linear", "scores", "judgements", "preferences", "metrics")


@dataclass
class CandidateArguments:
    """Which of LLM-Blender's candidates are kept, and which of their metrics count."""

    candidate_model: str | None = field(
        default=None, metadata={"help": "LLM-Blender's rows: keep the candidates of these models (comma-separated)"}
    )
    candidate_decoding_method: str | None = field(
        default=None, metadata={"help": "keep the candidates of these decoding methods (comma-separated)"}
    )
    n_candidates: int = field(default=-1, metadata={"help": "keep the first N of these candidates (-1: all)"})
    using_metrics: str | None = field(
        default=None,
        metadata={
            "help": "metrics (comma-separated) whose weighted mean is the score of a candidate; default "
            "rouge1,rouge2,rougeLsum, or the only one there is"
        },
    )


@dataclass
class ReadingArguments(CandidateArguments):
    """How rows of other projects are read."""

    dataset_format: str = field(
        default="auto",
        metadata={
            "choices": ["auto", *FORMATS],
            "help": first(
                "in", "dialect of the rows; `auto` tells it by the first row and says what it took it for", "convert"
            ),
        },
    )
    queries_path: str | None = field(
        default=None,
        metadata={
            "help": first(
                "in",
                "texts of the queries, for rows that hold ids alone: a BEIR folder, .jsonl, .tsv, a dataset",
                "convert",
            )
        },
    )
    query_data_config: str | None = field(default=None, metadata={"help": "config of queries loaded by name"})
    corpus_path: str | None = field(
        default=None,
        metadata={
            "help": first(
                "in",
                "texts of the passages, for rows that hold ids alone: a BEIR folder, .jsonl, .tsv, a dataset",
                "convert",
            )
        },
    )
    corpus_data_config: str | None = field(default=None, metadata={"help": "config of a collection loaded by name"})
    query_key: str | None = field(default=None, metadata={"help": "open-retrievals' rows: the query's key"})
    positive_key: str | None = field(default=None, metadata={"help": "their key of the relevant texts"})
    negative_key: str | None = field(default=None, metadata={"help": "their key of the other texts"})
    unfold_each_positive: bool = field(
        default=False, metadata={"help": "one group for each positive of a row instead of one for the row"}
    )

    def __post_init__(self) -> None:
        check_choice("dataset_format", self.dataset_format, ["auto", *FORMATS])

    def reading(self, max_queries: int = -1) -> ReadOptions:
        """The flags as options of the readers."""
        given = {flag.name: getattr(self, flag.name) for flag in fields(ReadingArguments)}
        return ReadOptions(**given, max_queries=max_queries)


@dataclass
class DatasetArguments(ReadingArguments):
    """Where the rows come from; names and meaning as in Tevatron."""

    dataset_name: str = field(
        default="json", metadata={"help": "`json` for a local file, or the name of a dataset for `datasets`"}
    )
    dataset_config: str | None = field(default=None, metadata={"help": "configuration of a named dataset"})
    dataset_path: str | None = field(
        default=None,
        metadata={
            "help": first(
                "in", "file or folder of rows (.json, .jsonl, .gz, .parquet); what is no path is a dataset's name"
            )
        },
    )
    dataset_split: str = field(default="train", metadata={"help": "split of a named dataset"})
    dataset_cache_dir: str | None = field(default=None, metadata={"help": "where `datasets` keeps what it downloads"})
    dataset_number_of_shards: int = field(default=1, metadata={"help": "cut the queries into this many shards"})
    dataset_shard_index: int = field(default=0, metadata={"help": "the shard to work on, counted from 0"})
    max_predict_data_size: int = field(
        default=-1,
        metadata={
            "help": first(
                "in", "rank or teach the first N queries only (-1: all); training ranks none", "teach", "rerank"
            )
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset_path is None and self.dataset_name == "json":
            raise InputError("--dataset_path must name a file (or --dataset_name a dataset); got neither")
        if self.dataset_name == "json" and _is_dataset_name(self.dataset_path or ""):
            self.dataset_name, self.dataset_path = self.dataset_path or "", None
        if not 0 <= self.dataset_shard_index < self.dataset_number_of_shards:
            raise InputError(
                f"--dataset_shard_index must lie in 0..{self.dataset_number_of_shards - 1}; "
                f"got {self.dataset_shard_index}"
            )


ENDINGS = (".json", ".jsonl", ".gz", ".tsv", ".parquet")


def _is_dataset_name(path: str) -> bool:
    """Whether a path is none, but reads like ``owner/name``."""
    named = re.fullmatch(r"[\w-]+/[\w.-]+", path) is not None and not path.endswith(ENDINGS)
    return named and not Path(path).exists()


@dataclass
class TrainDataArguments(DatasetArguments):
    """How groups are drawn from a teacher's verdicts and turned into labels."""

    permutation_path: str | None = field(
        default=None, metadata={"help": "InstructDistill's list of permutations for the rows of --dataset_path"}
    )
    teacher_run_path: str | None = field(
        default=None, metadata={"help": "a teacher's run whose order is the verdict on the candidates read"}
    )
    max_train_data_size: int = field(default=-1, metadata={"help": "train on the first N queries only (-1: all)"})
    max_eval_data_size: int = field(default=-1, metadata={"help": "evaluate on the first N queries only (-1: all)"})
    train_group_size: int = field(default=8, metadata={"help": first("how", "passages drawn for a query in one step")})
    group_sampling: str = field(
        default="auto",
        metadata={
            "choices": list(GROUP_SAMPLINGS),
            "help": first(
                "how",
                "`uniform` draws over the whole permutation, `top` takes its head, `one_positive` is Tevatron's "
                "one relevant passage and negatives; `auto`: one_positive for judged rows, else uniform; `top_bottom`, "
                "`top_random`, `random_bottom` take --num_pos and --num_neg passages from the ends, `stride` every "
                "int(1 / --sub_sampling_ratio)-th place (LLM-Blender's)",
            ),
        },
    )
    num_pos: int = field(default=1, metadata={"help": "passages, or pairs, that sub-sampling takes from the top"})
    num_neg: int = field(default=1, metadata={"help": "passages, or pairs, that sub-sampling takes from the bottom"})
    sub_sampling_ratio: float = field(default=0.4, metadata={"help": "share of the passages that a stride keeps"})
    min_group_size: int | None = field(
        default=None,
        metadata={"help": "draw a random number of passages, from this to --train_group_size (variable windows)"},
    )
    shuffle_passages: bool = field(
        default=False, metadata={"help": "show the passages drawn in random order, not the first stage's"}
    )
    pair_sampling: str | None = field(
        default=None,
        metadata={
            "choices": list(PAIR_SAMPLINGS),
            "help": "pairs that a student which compares is shown in one step (default: all)",
        },
    )
    positive_passage_no_shuffle: bool = field(default=False, metadata={"help": "always take the first positive"})
    negative_passage_no_shuffle: bool = field(default=False, metadata={"help": "always take the first negatives"})
    use_inbatch_negative: bool = field(
        default=False,
        metadata={"help": "each group also has the passages of the batch's other groups, tied as its worst"},
    )
    labels: str = field(
        default="auto",
        metadata={
            "choices": list(LABELS),
            "help": "what the loss learns from; `auto` is the loss's own choice (see the README's table of losses)",
        },
    )
    eval_dataset_path: str | None = field(
        default=None, metadata={"help": first("in", "groups or candidates that are ranked during training")}
    )
    test_dataset_path: str | None = field(
        default=None, metadata={"help": "candidates that are ranked after training, into OUTPUT_DIR/run.tsv"}
    )
    eval_qrels_path: str | None = field(
        default=None,
        metadata={"help": first("in", "judgements for the evaluation; without them the teacher's ten best are graded")},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("group_sampling", self.group_sampling, GROUP_SAMPLINGS)
        check_choice("labels", self.labels, LABELS)
        if self.pair_sampling is not None:
            check_choice("pair_sampling", self.pair_sampling, list(PAIR_SAMPLINGS))
        if self.min_group_size is not None and not 2 <= self.min_group_size <= self.train_group_size:
            raise InputError(
                f"--min_group_size must lie in 2..{self.train_group_size} (--train_group_size); "
                f"got {self.min_group_size}"
            )
        if self.num_pos < 1 or self.num_neg < 1 or not 0 < self.sub_sampling_ratio <= 1:
            raise InputError(
                "--num_pos and --num_neg must be at least 1 and --sub_sampling_ratio in 0..1; "
                f"got {self.num_pos}, {self.num_neg}, {self.sub_sampling_ratio}"
            )
        if self.train_group_size < 2:
            raise InputError(f"--train_group_size must be at least 2 to compare passages; got {self.train_group_size}")

    def reading_for_evaluation(self) -> ReadOptions:
        """The options for ``--eval_dataset_path``, whose dialect may be another one."""
        return replace(
            self.reading(self.max_eval_data_size),
            dataset_format="auto",
            queries_path=None,
            corpus_path=None,
            only_fitting=True,
        )

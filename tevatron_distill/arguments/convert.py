"""Flags of ``driver.convert``."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from tevatron_distill.arguments import check_choice
from tevatron_distill.arguments.data import ReadingArguments
from tevatron_distill.arguments.screens import first
from tevatron_distill.formats.runs import RUN_FORMATS
from tevatron_distill.schema import InputError

KINDS = (*RUN_FORMATS, "groups", "parquet")


@dataclass
class ConvertArguments(ReadingArguments):
    """What becomes which kind of file."""

    output: str = field(default="", metadata={"help": first("out", "the new file")})
    input: list[str] = field(
        default_factory=list,
        metadata={
            "help": first("in", "a run of 3, 4 or 6 columns; with --to groups, files of training rows of any dialect")
        },
    )
    to: str = field(
        default="trec",
        metadata={
            "help": first(
                "out", "kind of the new file: a run's columns, our groups.jsonl, or either of them as Parquet"
            ),
            "choices": list(KINDS),
        },
    )
    remove_query: bool = field(
        default=False,
        metadata={"help": first("how", "drop the passage that has the query's own name (ArguAna, Quora)")},
    )
    permutation_path: str | None = field(
        default=None, metadata={"help": "groups: InstructDistill's list of permutations for the rows"}
    )
    teacher_run_path: str | None = field(
        default=None, metadata={"help": "groups: a teacher's run whose order is the verdict on the rows' candidates"}
    )
    run_path: str | None = field(
        default=None,
        metadata={
            "help": first(
                "in",
                "groups from a first stage's run instead of --input: relevant passages of --qrels_path, the others "
                "are its negatives; texts from --queries_path and --corpus_path",
            )
        },
    )
    qrels_path: str | None = field(
        default=None,
        metadata={"help": first("in", "groups: judgements on the passages of --run_path, or of candidates in --input")},
    )
    depth: int = field(
        default=100, metadata={"help": first("how", "groups: the first candidates of each query in --run_path")}
    )
    max_skipped: float = field(
        default=0.1,
        metadata={
            "help": first(
                "how", "groups: share of the rows, 0..1, that may break a rule and be left out; more is an error"
            )
        },
    )
    overwrite_output_dir: bool = field(default=False, metadata={"help": first("out", "replace output that exists")})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("to", self.to, KINDS)
        if not self.output:
            raise InputError("--output must name the new file; got none")
        if self.to != "groups":
            self._check_run()
        elif bool(self.input) == (self.run_path is not None):
            raise InputError(
                "--to groups needs either --input or --run_path; got " + ("both" if self.input else "neither")
            )
        if self.run_path is not None:
            missing = [flag for flag in ("qrels_path", "queries_path", "corpus_path") if getattr(self, flag) is None]
            if missing:
                raise InputError(f"--run_path needs judgements and texts; give --{' and --'.join(missing)}")
        if self.depth < 1 or not 0 <= self.max_skipped <= 1:
            raise InputError(
                f"--depth must be at least 1 and --max_skipped lie in 0..1; got {self.depth} and {self.max_skipped}"
            )

    def _check_run(self) -> None:
        if len(self.input) != 1:
            raise InputError(f"--input must name one run; got {len(self.input)} (--to groups takes files of rows)")
        own = ("permutation_path", "teacher_run_path", "run_path", "qrels_path")
        flags: dict[str, object] = dict.fromkeys(own) | {flag.name: flag.default for flag in fields(ReadingArguments)}
        for flag, default in flags.items():
            if getattr(self, flag) != default:
                raise InputError(f"--{flag} is for --to groups; got --to {self.to}")

"""Flags of the driver that lets a teacher order candidates."""

from __future__ import annotations

from dataclasses import dataclass, field

from tevatron_distill.arguments import check_choice, token_budget
from tevatron_distill.arguments.screens import first
from tevatron_distill.arguments.server import ServerArguments
from tevatron_distill.engines import CHAT_TEMPLATES, ENGINES
from tevatron_distill.loading import DTYPES
from tevatron_distill.permutation import FUSIONS
from tevatron_distill.prompts import DEFAULT_INSTRUCTION, TEACHER_PROMPTS, AnswerKind, PointPrompt
from tevatron_distill.schema import InputError
from tevatron_distill.sorting import SORTS, question_bounds, question_size
from tevatron_distill.students.released import released_prompt
from tevatron_distill.teachers import TEACHERS, TeacherRow

ANSWERS: dict[str, AnswerKind | None] = {"auto": None, "generate": "text", "logits": "choice"}


def _rows(what: str) -> str:
    """What the flag's default is for each teacher."""
    named = {name: list(getattr(row, what)) for name, row in TEACHERS.items()}
    return ", ".join(f"{name} {values[0]}" for name, values in named.items() if values)


def _defaults(flag: str) -> str:
    """What a sort's flag is by default for each teacher that has such a sort."""
    values: dict[str, list[str]] = {}
    for teacher, row in TEACHERS.items():
        for defaults in row.sorts.values():
            if flag in defaults and str(defaults[flag]) not in values.setdefault(teacher, []):
                values[teacher].append(str(defaults[flag]))
    return " (default: " + ", ".join(f"{teacher} {' or '.join(given)}" for teacher, given in values.items()) + ")"


@dataclass
class TeachArguments(ServerArguments):
    """Who teaches what, and where the verdicts go."""

    output_path: str = field(
        metadata={"help": first("out", "groups.jsonl that is written: passages and verdict, a query a line")}
    )
    teacher: str = field(
        default="pairwise",
        metadata={
            "choices": list(TEACHERS),
            "help": first("teacher", "; ".join(f"`{name}` {row.help}" for name, row in TEACHERS.items())),
        },
    )
    depth: int = field(
        default=20,
        metadata={"help": first("in", "candidates of each query that a group holds")},
    )
    sort_depth: int | None = field(
        default=None,
        metadata={
            "help": "only so many of the first candidates are sorted; those behind keep their places and are tied "
            "(default: all)"
        },
    )
    run_path: str | None = field(
        default=None,
        metadata={"help": first("out", "the teacher's own TREC run, to be evaluated")},
    )
    permutation_path: str | None = field(
        default=None, metadata={"help": 'InstructDistill\'s JSON list of "3 > 1 > 2" strings, one a group'}
    )
    qrels_path: str | None = field(
        default=None,
        metadata={"help": first("in", "judgements of the teacher `qrels`")},
    )
    merge_paths: list[str] | None = field(
        default=None,
        metadata={"help": first("in", "groups.jsonl files and runs that the teacher `merged` merges")},
    )
    merge: str = field(
        default="rrf",
        metadata={
            "choices": list(FUSIONS),
            "help": "how several orders become one: reciprocal rank fusion or Borda's count",
        },
    )
    num_shuffles: int = field(
        default=0,
        metadata={
            "help": "permutation self-consistency: the candidates are sorted from so many shuffled orders, which "
            "--merge makes one; 0 sorts them once, from the first stage's order"
        },
    )
    seed: int = field(default=42, metadata={"help": "of the shuffled orders"})
    overwrite_output_dir: bool = field(
        default=False,
        metadata={"help": first("out", "replace output that is complete")},
    )

    sort: str | None = field(
        default=None,
        metadata={
            "choices": list(SORTS),
            "help": first("teacher", f"how candidates are sorted (default: {_rows('sorts')})"),
        },
    )
    num_passes: int | None = field(
        default=None,
        metadata={
            "help": first("teacher", f"passes of sliding_window, the K of PRP-sliding-K{_defaults('num_passes')}")
        },
    )
    window_size: int | None = field(
        default=None, metadata={"help": f"passages in a window of sliding_window{_defaults('window_size')}"}
    )
    step_size: int | None = field(
        default=None, metadata={"help": f"how far the window of sliding_window moves{_defaults('step_size')}"}
    )
    top_k: int = field(
        default=10,
        metadata={
            "help": first(
                "teacher", "places that heapsort, bubblesort and rechecked_heapsort find; those behind are tied"
            )
        },
    )
    num_child: int | None = field(
        default=None,
        metadata={
            "help": "passages beside the best so far in a question of heapsort, bubblesort and "
            f"rechecked_heapsort{_defaults('num_child')}"
        },
    )
    max_questions: int | None = field(
        default=None,
        metadata={
            "help": "questions that rechecked_heapsort asks about a query at the most: what heapsort leaves of them "
            f"checks its answers, with the candidates' order as prior{_defaults('max_questions')}"
        },
    )

    prior_run_path: str | None = field(
        default=None,
        metadata={
            "help": "a run, of a student say, whose order the sort starts from, and rechecked_heapsort has as prior "
            "(default: the candidates' own order)"
        },
    )

    engine: str = field(
        default="hf",
        metadata={
            "choices": list(ENGINES),
            "help": first(
                "teacher",
                "`hf` is a language model in transformers, `vllm` one in vLLM (offline, extra `vllm`), "
                "`openai_compatible` one behind a server (extra `openai`); `similarity` is a stand-in for one: a "
                "sentence encoder's similarity mixed with the first stage's score; `recorded` gives the answers of "
                "a log",
            ),
        },
    )
    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": first(
                "teacher",
                "the engine's model, or the teacher `student`: hub name or folder; on a server its name there",
            )
        },
    )
    recorded_path: str | None = field(
        default=None, metadata={"help": "log of prompts and answers that the engine `recorded` reads"}
    )
    record_path: str | None = field(
        default=None, metadata={"help": "log of every prompt and answer, which the engine `recorded` reads back"}
    )
    prompt: str | None = field(
        default=None,
        metadata={
            "choices": list(dict.fromkeys(name for prompts in TEACHER_PROMPTS.values() for name in prompts)),
            "help": first(
                "teacher", f"the wording (default: a released model's own by its name, else {_rows('prompts')})"
            ),
        },
    )
    instruction: str | None = field(
        default=None,
        metadata={
            "help": f"what passages are wanted for, in the prompt qwen3_reranker (default: {DEFAULT_INSTRUCTION})"
        },
    )
    answer: str = field(
        default="auto",
        metadata={
            "choices": list(ANSWERS),
            "help": "setwise and listwise: the answer is generated, or the logits of the labels at its first place are "
            "compared; `auto` compares for setwise and generates for listwise, where the engine can",
        },
    )
    max_unparsed: float = field(
        default=0.1,
        metadata={
            "help": "share of generated answers that may need repair, and of a server's choices that may be none "
            "of the labels; above it the run fails"
        },
    )
    chat_template: str = field(
        default="auto",
        metadata={
            "choices": list(CHAT_TEMPLATES),
            "help": "`auto` uses the chat template of a decoder that has one (or the server's), `never` the published "
            "plain prompt",
        },
    )
    dtype: str = field(
        default="auto", metadata={"choices": list(DTYPES), "help": "precision; `auto` is the checkpoint's"}
    )
    max_length: int | None = field(
        default=None,
        metadata={
            "help": "tokens of a prompt and its answer; passages are shortened to fit (default: 1024, listwise 4096)"
        },
    )
    thinking_tokens: int = field(
        default=0,
        metadata={
            "help": "tokens that a reasoning model may think before it writes its answer; 0 tells it not to think"
        },
    )
    batch_tokens: str = field(
        default="auto",
        metadata={
            "help": first("how", "tokens of a batch, padding included: a number, or auto: what is fast on the device")
        },
    )
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
        default=None,
        metadata={"help": first("out", "SQLite file of all answers; default answer_cache.sqlite beside the output")},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("teacher", self.teacher, list(TEACHERS))
        check_choice("engine", self.engine, list(ENGINES))
        check_choice("merge", self.merge, FUSIONS)
        check_choice("answer", self.answer, list(ANSWERS))
        check_choice("chat_template", self.chat_template, CHAT_TEMPLATES)
        check_choice("dtype", self.dtype, list(DTYPES))
        token_budget(self.batch_tokens)
        row = TEACHERS[self.teacher]
        self._fill_in(row)
        self._check_numbers()
        self._check_inputs(row)
        if row.sorts:
            self._check_asking(row)
        else:
            self._check_silent()

    def _fill_in(self, row: TeacherRow) -> None:
        """Put the teacher's defaults in the place of flags that are not given."""
        self.max_length = row.max_length if self.max_length is None else self.max_length
        if self.sort is not None:
            check_choice("sort", self.sort, list(SORTS))
        if not row.sorts:
            return
        self.sort = self.sort or next(iter(row.sorts))
        self.prompt = self.prompt or released_prompt(self.model_name_or_path, row.prompts) or next(iter(row.prompts))
        for flag, value in row.sorts.get(self.sort, {}).items():
            if getattr(self, flag) is None:
                setattr(self, flag, value)

    def _check_numbers(self) -> None:
        flags = ("depth", "sort_depth", "queries_per_round", "max_length", "num_passes", "top_k")
        for flag in (*flags, "num_child", "max_questions"):
            value = getattr(self, flag)
            if value is not None and value < 1:
                raise InputError(f"--{flag} must be at least 1; got {value}")
        if self.num_shuffles < 0 or self.thinking_tokens < 0 or not 0.0 <= self.max_unparsed <= 1.0:
            raise InputError(
                "--num_shuffles and --thinking_tokens must be 0 or more and --max_unparsed lie in 0..1; "
                f"got {self.num_shuffles}, {self.thinking_tokens} and {self.max_unparsed}"
            )
        if not 0.0 <= self.similarity_weight <= 1.0 or not self.similarity_temperature > 0.0:
            raise InputError(
                "--similarity_weight must lie in 0..1 and --similarity_temperature above 0; "
                f"got {self.similarity_weight} and {self.similarity_temperature}"
            )

    def _check_inputs(self, row: TeacherRow) -> None:
        for flag in row.needs:
            if getattr(self, flag) is None:
                raise InputError(f"--teacher {self.teacher} needs --{flag}")
        for teacher, flag in (("qrels", "qrels_path"), ("merged", "merge_paths")):
            if self.teacher != teacher and getattr(self, flag) is not None:
                raise InputError(f"--{flag} is for --teacher {teacher}; got --teacher {self.teacher}")
        if not row.sorts:
            return
        needs = {"recorded": ["recorded_path"], "openai_compatible": ["base_url", "model_name_or_path"]}
        for needed in needs.get(self.engine, ["model_name_or_path"]):
            if getattr(self, needed) is None:
                raise InputError(f"--engine {self.engine} needs --{needed}")
        for flag in ("base_url", "max_cost"):
            if self.engine != "openai_compatible" and getattr(self, flag) is not None:
                raise InputError(f"--{flag} is for --engine openai_compatible; got --engine {self.engine}")

    def _check_silent(self) -> None:
        """Refuse what only a teacher that asks can heed."""
        given = {
            "num_shuffles": self.num_shuffles > 0,
            "sort": self.sort is not None,
            "sort_depth": self.sort_depth is not None,
            "prior_run_path": self.prior_run_path is not None,
            "prompt": self.prompt is not None,
            "answer": self.answer != "auto",
        }
        for flag, is_given in given.items():
            if is_given:
                raise InputError(
                    f"--{flag} is for teachers that ask an engine; --teacher {self.teacher} does not; leave it out"
                )

    def _check_asking(self, row: TeacherRow) -> None:
        """Refuse a sort, prompt or answer that does not go with the teacher."""
        for flag, choices in (("sort", row.sorts), ("prompt", row.prompts)):
            if getattr(self, flag) not in choices:
                raise InputError(
                    f"--{flag} of --teacher {self.teacher} must be one of {', '.join(choices)}; "
                    f"got {getattr(self, flag)!r}"
                )
        if ANSWERS[self.answer] is not None and not row.answers:
            raise InputError(
                f"--answer is for --teacher setwise and listwise; the prompts of --teacher {self.teacher} decide it"
            )
        prompt = row.prompts[self.prompt or ""]
        if self.instruction is not None and not (isinstance(prompt, PointPrompt) and prompt.instruction):
            raise InputError(f"--instruction is for --prompt qwen3_reranker; --prompt {self.prompt} has no room for it")
        if self.num_shuffles and self.sort == "pointwise":
            raise InputError("--num_shuffles changes nothing where each passage is judged by itself; leave it out")
        if self.num_shuffles and self.prior_run_path is not None:
            raise InputError("--num_shuffles leaves nothing of the order of --prior_run_path; leave one of them out")
        if self.num_shuffles and self.sort == "rechecked_heapsort":
            raise InputError("--num_shuffles takes from rechecked_heapsort the order that it trusts; leave it out")
        self._check_question(row)

    def _check_question(self, row: TeacherRow) -> None:
        if self.sort == "sliding_window":
            window, step = self.window_size or 0, self.step_size or 0
            if self.teacher == "pairwise" and (window, step) != (2, 1):
                raise InputError(
                    "--teacher pairwise compares two passages: --window_size must be 2 and --step_size 1; "
                    f"got {window} and {step}"
                )
            if window < 2 or not 1 <= step < window:
                raise InputError(
                    "--window_size must be at least 2 and --step_size lie in 1..window_size - 1; "
                    f"got {window} and {step}"
                )
        if self.teacher == "pairwise" and "heapsort" in (self.sort or "") and self.num_child != 1:
            raise InputError(f"--teacher pairwise compares two passages: --num_child must be 1; got {self.num_child}")
        if self.sort == "rechecked_heapsort":
            depth = min(self.sort_depth or self.depth, self.depth)
            _, needed = question_bounds("heapsort", depth, top_k=self.top_k, num_child=self.num_child)
            if needed > (self.max_questions or 0):
                raise InputError(
                    f"--max_questions must be at least {needed} for {depth} passages, --top_k {self.top_k} and "
                    f"--num_child {self.num_child}; got {self.max_questions}; more --num_child need fewer questions"
                )
        elif self.max_questions is not None:
            raise InputError(f"--max_questions is for --sort rechecked_heapsort; got --sort {self.sort}")
        if row.answers:  # sets and lists, which may run out of labels
            row.prompts[self.prompt or ""].labels(min(self.question_size, self.sort_depth or self.depth, self.depth))

    @property
    def question_size(self) -> int:
        """The most passages that the sort asks about at once."""
        return question_size(self.sort or "", self.window_size, self.num_child)

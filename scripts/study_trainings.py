"""What the study trains and ranks: the students, the verdicts they learn from, the sets they are tested on."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

from study_data import COLLECTIONS, StudyData, drawn

from tevatron_distill.driver import rerank, train
from tevatron_distill.formats import load_candidates
from tevatron_distill.formats.groups import read_groups, write_groups
from tevatron_distill.formats.output import write_whole
from tevatron_distill.formats.rerank_input import write_candidates_lines
from tevatron_distill.schema import Candidates

SEEDS = (1, 2, 3)
DEV = {"dl19": "dl20", "nfcorpus": "nfcorpus.dev", "scifact": "scifact.dev"}
"""Set that is tested on → the one that the weight of the first stage is chosen on."""
TRAIN_SETS: dict[str, dict[str, int | None]] = {
    "mix": {"rank_vicuna": None, "nfcorpus": 120, "scifact": 90},
    "rank_vicuna": {"rank_vicuna": None},
    "rank_vicuna_bm25": {"rank_vicuna.BM25": None},
    "gpt_bm25": {"gpt": None},
    "fused_bm25": {"fused": None},
    "judgements": {"nfcorpus": 300, "scifact": 180},
    "known_item": {"known_item": 6000},
}
"""Name of what a student learns from: the verdicts in it, with how many queries are drawn of each (None: all).

`rank_vicuna` is the 7B teacher's order of five first stages of dl20's queries; the three `_bm25` are verdicts on the
same lists, by that teacher, by GPT-3.5, and by both fused.
"""


@dataclass(frozen=True)
class Student:
    """How a kind of student is trained and ranks.

    Attributes:
        flags: of training.
        start: name of the training whose weights it starts from; None for the untrained backbone.
        depth: candidates of nfcorpus and scifact that it ranks.
        dl_depth: candidates of dl19 and dl20 that it ranks.
        group_size: passages of a query in a step.
    """

    flags: tuple[str, ...]
    start: str | None = None
    depth: int = 100
    dl_depth: int = 100
    group_size: int = 12


# Chosen on dl20: trained on half of its queries, colbert gains .010 on the other half in 60 steps at this rate
DUAL = ("--learning_rate", "2e-5")
# LLM-Blender's own: the best of ten passages goes to the top in 9 comparisons instead of 90
BUBBLE = ("--inference_mode", "bubble", "--num_passes", "1", "--orders", "1")
MUTUAL = ("--colbert_convention", "mutual")
STUDENTS = {
    "colbert": Student((*DUAL, *MUTUAL)),
    "simcls": Student((*DUAL, "--query_max_len", "64", "--passage_max_len", "128", "--temperature", "0.05")),
    "cross_encoder": Student(
        ("--learning_rate", "5e-5", "--rerank_max_len", "192"), start="cross_encoder.known_item", depth=20
    ),
    "pair_ranker": Student(
        ("--learning_rate", "2e-4", "--query_max_len", "32", "--passage_max_len", "80", *BUBBLE),
        start="cross_encoder.known_item", depth=10, dl_depth=10, group_size=4,
    ),
}  # fmt: skip
NUM_GROUPS = 8
"""Queries in a step."""


@dataclass(frozen=True)
class Training:
    """A student that learns from verdicts by a loss; trained once for each seed."""

    student: str
    train: str
    loss: str = "rank_net"
    seeds: tuple[int, ...] = SEEDS
    tests: tuple[str, ...] = tuple(DEV)
    steps: int = 60
    flags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What its folder is called."""
        return f"{self.student}.{self.train}" + ("" if self.loss == "rank_net" else f".{self.loss}")


# A fresh head learns nothing from 960 queries at the rate of the others
WARM_STARTS = (
    Training("cross_encoder", "known_item", seeds=(1,), tests=("dl19",), steps=120, flags=("--learning_rate", "2e-4")),
)
EVERY_STUDENT = tuple(Training(name, "mix", steps=40 if student.start else 60) for name, student in STUDENTS.items())
SHORT = {"seeds": (1,), "tests": ("dl19",), "steps": 20}
LABELS = tuple(
    Training("colbert", name, **SHORT)
    for name in ("rank_vicuna_bm25", "gpt_bm25", "fused_bm25", "judgements", "known_item")
)
LOSSES = tuple(
    Training("colbert", "rank_vicuna", loss, **SHORT)
    for loss in ("rank_net", "softmax_ce", "list_mle", "lambda_loss", "approx_ndcg", "adr_mse")
)


@dataclass(frozen=True)
class Cut:
    """How much of the study is done.

    Attributes:
        trainings: behind the warm starts.
        warm_starts: what they start from.
        num_queries: of each set of judgements, and of known items, that verdicts are made for (None: all).
        num_tests: queries of each set that are tested on (None: all).
        num_dev: queries of nfcorpus and scifact that choices are made on.
        depth: candidates that are ranked at most.
    """

    trainings: tuple[Training, ...] = (*EVERY_STUDENT, *LABELS, *LOSSES)
    warm_starts: tuple[Training, ...] = WARM_STARTS
    num_queries: int | None = None
    num_tests: int | None = None
    num_dev: int = 100
    depth: int = 100


FULL = Cut()
QUICK = Cut(
    trainings=tuple(Training(student, "mix", seeds=(1,), steps=12) for student in ("colbert", "simcls")),
    warm_starts=(), num_queries=40, num_tests=30, num_dev=0, depth=30,
)  # fmt: skip


class Study:
    """Trains a student and ranks every set with it; what is complete is not done again."""

    def __init__(self, data: StudyData, cut: Cut = FULL) -> None:
        self.data, self.cut = data, cut

    def folder(self, training: Training, seed: int) -> Path:
        """The student's folder."""
        return self.data.out / "students" / training.name / str(seed)

    def run(self, name: str, test: str, seed: int) -> Path:
        """The run of a training, or of `colbert.none`, the untrained backbone, on a set."""
        return self.data.out / "runs" / name / str(seed) / f"{test}.tsv"

    def mixed_groups(self, name: str) -> Path:
        """The verdicts of `TRAIN_SETS`, in one file."""
        parts = TRAIN_SETS[name]
        path = self.data.out / "mixed" / f"{name}.jsonl"
        if not path.exists():
            groups = [
                replace(group, query_id=f"{part}.{group.query_id}", scores=None)
                for part, number in parts.items()
                for group in sorted(read_groups(self.data.groups(part)), key=lambda one: drawn(one.query_id))[:number]
            ]
            path.parent.mkdir(parents=True, exist_ok=True)
            write_groups(path, groups)
        return path

    def candidates(self, test: str) -> Path:
        """What is ranked of a set; of a collection, its test queries."""
        path = self.data.out / "ranked" / f"{test}.jsonl"
        if not path.exists():
            name = f"{test}.test" if test in COLLECTIONS else test
            number = self.cut.num_dev if test.endswith(".dev") else self.cut.num_tests
            lists = load_candidates(self.data.candidates(name))
            lists = [entry.top(self.cut.depth) for entry in sorted(lists, key=lambda one: drawn(one.query_id))[:number]]
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, write_candidates_lines(lists))
        return path

    def lists(self, test: str) -> list[Candidates]:
        """The candidates of :meth:`candidates`, read."""
        return load_candidates(self.candidates(test))

    def make_inputs(self) -> None:
        """All that the trainings share, so that they can go side by side."""
        names = {training.train for training in (*self.cut.warm_starts, *self.cut.trainings)}
        self.data.make({part for name in names for part in TRAIN_SETS[name]})
        for name in names:
            self.mixed_groups(name)
        for test in (*DEV, *self.dev_sets):
            self.candidates(test)

    @property
    def dev_sets(self) -> tuple[str, ...]:
        """The sets that choices are made on; none in a cut without."""
        return tuple(DEV.values()) if self.cut.num_dev else ()

    def do(self, training: Training, seed: int) -> None:
        """Train a student and rank with it."""
        self._quieten()
        folder = self.folder(training, seed)
        student = STUDENTS[training.student]
        if not is_complete(folder):
            start = self.data.backbone
            if student.start and student.start != training.name:
                start = self.folder(self.by_name(student.start), 1)
            paths = ["--dataset_path", f"{self.mixed_groups(training.train)}", "--output_dir", f"{folder}"]
            steps = training.steps
            how = ["--max_steps", f"{steps}", "--warmup_steps", f"{steps // 10}", "--seed", f"{seed}"]
            group = ["--train_group_size", f"{student.group_size}"]
            group += ["--per_device_train_batch_size", f"{NUM_GROUPS}"]
            once = ["--save_strategy", "no", "--logging_steps", "10", "--overwrite_output_dir"]
            what = ["--model_name_or_path", f"{start}", "--student", training.student, "--loss", training.loss]
            once += [*student.flags, *training.flags, "--use_cpu", "--disable_tqdm"]
            train.main([*what, *paths, *how, *group, *once])
        mixes = training.train == "mix" and seed == training.seeds[0]
        for test in (*training.tests, *(self.dev_sets if mixes else ())):
            depth = student.dl_depth if test in ("dl19", "dl20") else student.depth
            self.rank(folder, training.name, test, seed, depth)

    def do_untrained(self) -> None:
        """Rank with the untrained backbone's token vectors."""
        self._quieten()
        flags = ("--student", "colbert", *MUTUAL)
        for test in (*DEV, *self.dev_sets):
            self.rank(self.data.backbone, "colbert.none", test, 1, 100, *flags)

    def rank(self, folder: Path, name: str, test: str, seed: int, depth: int, *flags: str) -> None:
        """Rank a set."""
        path = self.run(name, test, seed)
        if path.exists():
            return
        paths = ["--dataset_path", f"{self.candidates(test)}", "--rerank_output_path", f"{path}"]
        vectors = path.with_suffix(".vectors")
        if name.startswith(("colbert", "simcls")):  # each passage encoded once for all queries
            paths += ["--passage_vectors_path", f"{vectors}"]
        how = ["--depth", f"{depth}", "--use_cpu", "--output_dir", f"{path.parent}", "--disable_tqdm"]
        rerank.main(["--model_name_or_path", f"{folder}", *flags, *paths, *how])
        shutil.rmtree(vectors, ignore_errors=True)

    @staticmethod
    def by_name(name: str) -> Training:
        """The training of that name."""
        return next(one for one in (*FULL.warm_starts, *FULL.trainings) if one.name == name)

    @staticmethod
    def _quieten() -> None:
        warnings.simplefilter("ignore")
        logging.getLogger("transformers").setLevel(logging.ERROR)


def is_complete(folder: Path) -> bool:
    """Whether a training has come to its end."""
    record = folder / "run_config.json"
    return record.exists() and bool(json.loads(record.read_text(encoding="utf-8")).get("complete"))

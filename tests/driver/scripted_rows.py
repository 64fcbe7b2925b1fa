"""Rows to teach, the flags of the driver, and an engine that stops."""

from __future__ import annotations

from contextlib import contextmanager

import conftest
import pytest
from conftest import WORDS, build_causal, build_t5

from tevatron_distill.engines import HFEngine
from tevatron_distill.formats.rerank_input import write_candidates_lines
from tevatron_distill.schema import Candidates, Passage

LETTERS = [
    "Passage A B C D E F G H [A] > [B] > [C] > [D] > [E]",
    "yes no\nyes\nno\n\nyes\n\nno",
    "in C in D in E in F",
] * 20


def build_lettered(folder, architecture):
    """A tiny model whose tokenizer has the labels of all prompts as tokens."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conftest, "SENTENCES", [*conftest.SENTENCES, *LETTERS])
        return build_t5(folder) if architecture == "t5" else build_causal(folder, architecture)


def write_rows(path, sizes):
    """Queries ``q0``, ``q1``, … with so many passages each, as rerank rows."""
    candidates = [
        Candidates(
            f"q{number}",
            f"what is {WORDS[number % 10]}",
            tuple(
                Passage(f"d{number}_{place}", " ".join(WORDS[(number + place) % 8 :][: 3 + place]))
                for place in range(size)
            ),
            tuple(map(float, range(size, 0, -1))),
        )
        for number, size in enumerate(sizes)
    ]
    path.write_text("".join(f"{line}\n" for line in write_candidates_lines(candidates)))
    return path


def teach_flags(rows, output, *more):
    return ["--dataset_path", str(rows), "--output_path", str(output), "--queries_per_round", "2", *more]


class StoppedError(Exception):
    pass


@contextmanager
def cut_after(num_batches):
    """The engine stops after so many batches."""
    answer, count = HFEngine.answer, []

    def failing(self, requests):
        if len(count) == num_batches:
            raise StoppedError
        count.append(1)
        return answer(self, requests)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HFEngine, "answer", failing)
        yield StoppedError

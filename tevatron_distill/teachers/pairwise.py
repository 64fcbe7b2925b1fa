"""Pairwise ranking prompting: a sort asks which of two passages is better, in both orders."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from tevatron_distill.engines import AnswerCache, Engine, Request
from tevatron_distill.prompts import ChoicePrompt
from tevatron_distill.schema import Candidates, Group, InputError
from tevatron_distill.sorting import Answer, Question, Sort, Sorted, run_in_lockstep

Pair = tuple[int, int]


class PairwiseTeacher:
    """Published PRP: a hard vote from each order of a pair, ties half each, the first stage breaks equal sums.

    The averaged probability of each pair that was asked is kept as a preference.

    Args:
        engine: answers with the logits of two labels.
        prompt: shows two passages.
        sort: makes the sort for a number of passages; its questions name two passages.
        sort_name: for the record.
        cache: keeps the engine's answers.

    Source:
        Qin et al. 2023, arXiv 2306.17563; aggregation as in InstructDistill (Sun et al. 2023, arXiv 2311.01555).
    """

    def __init__(
        self,
        engine: Engine,
        prompt: ChoicePrompt,
        sort: Callable[[int], Sort],
        sort_name: str,
        cache: AnswerCache,
    ) -> None:
        self._engine = engine
        self._prompt = prompt
        self._sort = sort
        self._cache = cache
        self._about = {"name": "pairwise", "sort": sort_name, "model": engine.model_name, "prompt": prompt.name}
        self._num_pairs = 0
        self._num_disagreeing = 0
        self._first_votes = 0.0

    def prepare(self, candidates: Sequence[Candidates]) -> None:
        """Let the engine see all queries before the first question."""
        self._engine.prepare(candidates, self._prompt, 2)

    def teach(self, block: Sequence[Candidates]) -> Iterator[tuple[int, Group]]:
        """Sort the candidates of a block of queries together; yield each query's index and group as it finishes."""
        books = [_Book(entry, [self._prompt.passage_text(passage) for passage in entry.passages]) for entry in block]

        def ask(asked: list[tuple[int, Question]]) -> list[Answer]:
            return self._ask([(books[index], _pair(question)) for index, question in asked])

        for index, result in run_in_lockstep([self._sort(len(entry.passages)) for entry in block], ask):
            yield index, self._group(books[index], result)

    def _ask(self, asked: list[tuple[_Book, Pair]]) -> list[Answer]:
        new: dict[tuple[int, frozenset[int]], tuple[_Book, Pair]] = {}
        for book, pair in asked:
            if frozenset(pair) not in book.verdicts:
                new.setdefault((id(book), frozenset(pair)), (book, pair))
        requests = [
            Request(self._prompt, book.candidates, order, tuple(book.texts[position] for position in order))
            for book, (i, j) in new.values()
            for order in ((i, j), (j, i))
        ]
        answers = iter(self._cache.ask(self._engine, requests))
        for book, (i, j) in new.values():
            self._record(book, i, j, next(answers), next(answers))
        return [book.votes(*pair) for book, pair in asked]

    def _record(self, book: _Book, i: int, j: int, forward: Sequence[float], backward: Sequence[float]) -> None:
        # Votes and probability of the passage that stands first.
        vote_i, vote_j = _vote(*forward), _vote(*backward)
        book.verdicts[frozenset((i, j))] = {i: vote_i + 1.0 - vote_j, j: vote_j + 1.0 - vote_i}
        low_high = (forward, backward) if i < j else (backward, forward)
        probability = (_sigmoid(*low_high[0]) + 1.0 - _sigmoid(*low_high[1])) / 2.0
        book.preferences[min(i, j), max(i, j)] = round(probability, 6)
        self._num_pairs += 1
        self._num_disagreeing += vote_i != 1.0 - vote_j
        self._first_votes += vote_i + vote_j

    def _group(self, book: _Book, result: Sorted) -> Group:
        return Group(
            query_id=book.candidates.query_id,
            query=book.candidates.query,
            passages=book.candidates.passages,
            permutation=result.order,
            num_ranked=result.num_ranked,
            scores=result.scores,
            preferences=tuple((i, j, p) for (i, j), p in sorted(book.preferences.items())),
            teacher=self._about,
        )

    def report(self) -> Mapping[str, float]:
        """Figures of all that was taught so far.

        Returns:
            ``pairs`` compared; prompts ``asked`` and ``cached``; ``tokens`` without padding; prompts ``shortened``;
            ``disagreement``, the share of pairs whose two orders do not name the same passage; ``position_bias``,
            the share of answers that chose the first label, minus .5.
        """
        pairs = max(1, self._num_pairs)
        return {
            "pairs": self._num_pairs,
            "asked": self._cache.num_asked,
            "cached": self._cache.num_cached,
            "tokens": self._engine.num_tokens,
            "shortened": self._engine.num_shortened,
            "disagreement": self._num_disagreeing / pairs,
            "position_bias": (self._first_votes / (2 * pairs) - 0.5) if self._num_pairs else 0.0,
        }


class _Book:
    """What is known about one query while it is sorted: votes and preferences of the pairs asked so far."""

    def __init__(self, candidates: Candidates, texts: list[str]) -> None:
        self.candidates = candidates
        self.texts = texts
        self.verdicts: dict[frozenset[int], dict[int, float]] = {}
        self.preferences: dict[Pair, float] = {}

    def votes(self, i: int, j: int) -> tuple[float, float]:
        verdict = self.verdicts[frozenset((i, j))]
        return verdict[i], verdict[j]


def _pair(question: Question) -> Pair:
    if len(question) != 2:
        raise InputError(
            f"--teacher pairwise compares two passages; the sort asks about {len(question)}; "
            "use --window_size 2 --step_size 1, or --num_child 1"
        )
    return question[0], question[1]


def _vote(first: float, second: float) -> float:
    return 0.5 if first == second else float(first > second)


def _sigmoid(first: float, second: float) -> float:
    """Probability of the first of two logits, without overflow."""
    difference = first - second
    if difference >= 0:
        return 1.0 / (1.0 + math.exp(-difference))
    return math.exp(difference) / (1.0 + math.exp(difference))

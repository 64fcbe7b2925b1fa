"""Pairwise: which of two passages is better, asked in both orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tevatron_distill.prompts import ChoicePrompt
from tevatron_distill.schema import InputError
from tevatron_distill.sorting import Question
from tevatron_distill.teachers.oracle import Book, EngineAnswer, logits_of, probability


class PairwiseOracle:
    """Published PRP: a hard vote from each order of a pair, ties half each; duoT5: the probability of each order.

    The averaged probability of each pair that was asked is kept as a preference. An answer that is none of the labels
    is half a vote for each.

    Source:
        Qin et al. 2023, arXiv 2306.17563; aggregation as in InstructDistill (Sun et al. 2023, arXiv 2311.01555).
        Pradeep et al. 2021, arXiv 2101.05667 (duoT5, the sums of both orders).
    """

    name = "pairwise"
    has_preferences = True

    def __init__(self, prompt: ChoicePrompt) -> None:
        self.prompt = prompt
        self._num_pairs = 0
        self._num_disagreeing = 0
        self._first_votes = 0.0

    def key(self, question: Question) -> Question:
        """The pair, whichever stands first.

        Raises:
            InputError: if it is no pair.
        """
        if len(question) != 2:
            raise InputError(
                f"--teacher pairwise compares two passages; the sort asks about {len(question)}; "
                "use --window_size 2 --step_size 1, or --num_child 1"
            )
        return min(question), max(question)

    def shown(self, question: Question) -> list[Question]:
        """Both orders."""
        return [question, question[::-1]]

    def read(self, book: Book, question: Question, answers: Sequence[EngineAnswer]) -> Mapping[int, float]:
        """What each passage gets from both orders together."""
        i, j = question
        read = [logits_of(book, answer, 2) for answer in answers]
        (first, second), (first_back, second_back) = (numbers or (0.0, 0.0) for numbers in read)
        forward, backward = probability(first, second), probability(first_back, second_back)
        votes = _vote(first, second), _vote(first_back, second_back)  # of the passage that stands first
        preference = (forward + 1.0 - backward) / 2.0 if i < j else (backward + 1.0 - forward) / 2.0
        if read != [None, None]:
            book.preferences[min(i, j), max(i, j)] = round(preference, 6)
        self._num_pairs += 1
        self._num_disagreeing += votes[0] != 1.0 - votes[1]
        self._first_votes += sum(votes)
        there, back = (forward, backward) if self.prompt.soft else votes
        return {i: there + 1.0 - back, j: back + 1.0 - there}

    def report(self) -> Mapping[str, float]:
        """How the two orders go together.

        Returns:
            ``pairs`` compared; ``disagreement``, the share of pairs whose two orders do not name the same passage;
            ``position_bias``, the share of answers that chose the first label, minus .5.
        """
        pairs = max(1, self._num_pairs)
        return {
            "pairs": self._num_pairs,
            "disagreement": self._num_disagreeing / pairs,
            "position_bias": (self._first_votes / (2 * pairs) - 0.5) if self._num_pairs else 0.0,
        }


def _vote(first: float, second: float) -> float:
    return 0.5 if first == second else float(first > second)

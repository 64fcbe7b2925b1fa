"""What one asks of a reward model that compares: LLM-Blender's calls, for every student that reads pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tevatron_distill.layouts import Layout, PairLayout
from tevatron_distill.reranker.batches import Batcher
from tevatron_distill.reranker.pair import Comparer, Plan
from tevatron_distill.schema import Candidates, InputError, Passage

COMPARE_MODES = {"both": "both", "ab": "ab", "ba": "ba", "[A,B]+[B,A]": "both", "[A,B]": "ab", "[B,A]": "ba"}
"""Which order two candidates are shown in, with LLM-Blender's spellings."""

REF_MODES = ("longest", "shortest", "median_length", "first", "last")
CONVERSATION = "Finish the following coversation in each i-th turn by filling in <Response i> with your response."
"""LLM-Blender's instruction, its misspelling included, for PairRM has learned it."""


class Comparisons:
    """Calls of a student that compares, mixed into the reranker.

    ``inputs`` are texts of sources, candidates are texts; lists may be of any length each, and hold equal texts.
    LLM-Blender's ``batch_size`` has no meaning here: batches are formed by ``batch_tokens``.
    """

    model: Any
    layout: Layout
    batcher: Batcher

    def compare(
        self,
        inputs: Sequence[str],
        candidates_a: Sequence[str],
        candidates_b: Sequence[str],
        mode: str = "both",
        return_logits: bool = False,
        *,
        instructions: Sequence[str] | None = None,
    ) -> list[bool] | list[float]:
        """Is the first candidate better than the second?

        Args:
            inputs: the sources.
            candidates_a: one for each source.
            candidates_b: one for each source.
            mode: ``both`` orders, averaged (LLM-Blender's documentation says so, its code adds them up); ``ab`` or
                ``ba`` shows one order only. In LLM-Blender's spelling ``[A,B]+[B,A]``, ``[A,B]``, ``[B,A]``.
            return_logits: how far A is ahead, instead of whether. (LLM-Blender's ``[B,A]`` says how far B is.)
            instructions: put before the sources, without a space between, as in LLM-Blender.

        Raises:
            InputError: if the lists differ in length, or the mode is unknown.
            TypeError: if the student does not compare.
        """
        if mode not in COMPARE_MODES:
            raise InputError(f"mode must be one of {', '.join(COMPARE_MODES)}; got {mode!r}")
        if len(candidates_a) != len(candidates_b):
            raise InputError(f"candidates must come in pairs; got {len(candidates_a)} and {len(candidates_b)}")
        pairs = list(zip(candidates_a, candidates_b, strict=True))
        comparer = self.comparer(inputs, pairs, instructions)
        views = {"both": ((0, 1), (1, 0)), "ab": ((0, 1),), "ba": ((1, 0),)}[COMPARE_MODES[mode]]
        logits = []
        with torch.inference_mode():
            comparer.compare([(index, i, j) for index in range(len(pairs)) for i, j in views])
        for index in range(len(pairs)):
            ahead = [comparer.logits[index, i, j] * (1 if i == 0 else -1) for i, j in views]
            logits.append(sum(ahead) / len(ahead))
        return logits if return_logits else [logit > 0 for logit in logits]

    def compare_conversations(
        self,
        conversations_a: Sequence[Sequence[Mapping[str, str]]],
        conversations_b: Sequence[Sequence[Mapping[str, str]]],
        *,
        mode: str = "both",
        return_logits: bool = False,
    ) -> list[bool] | list[float]:
        """Compare the assistant's turns of two conversations with the same turns of the user.

        Args:
            conversations_a: turns ``{"role": "USER", "content": …}`` and ``{"role": "ASSISTANT", …}`` in turn.
            conversations_b: as many, with the same turns of the user.
            mode: as of :meth:`compare`.
            return_logits: as of :meth:`compare`.

        Raises:
            InputError: if turns are missing, or the user says different things.
        """
        if len(conversations_a) != len(conversations_b):
            raise InputError(f"conversations must come in pairs; got {len(conversations_a)} and {len(conversations_b)}")
        for number, (one, two) in enumerate(zip(conversations_a, conversations_b, strict=True)):
            check_conversations(number, one, two)
        sources = [
            "\n".join(
                f"USER: {turn['content']}\nAssistant: <Response {place + 1}>" for place, turn in enumerate(one[::2])
            )
            for one in conversations_a
        ]
        first, second = (
            [
                "\n".join(f"<Response {place + 1}>: {turn['content']}" for place, turn in enumerate(one[1::2]))
                for one in conversations
            ]
            for conversations in (conversations_a, conversations_b)
        )
        instructions = [CONVERSATION] * len(sources)
        return self.compare(sources, first, second, mode, return_logits, instructions=instructions)

    def rank_with_ref(
        self,
        inputs: Sequence[str],
        candidates: Sequence[Sequence[str]],
        ref_candidates: Sequence[str] | None = None,
        *,
        ref_mode: str | None = None,
        mode: str | None = None,
        instructions: Sequence[str] | None = None,
        return_scores: bool = True,
    ) -> list[list[float]] | list[list[int]]:
        """Rewards: how far each candidate is ahead of one reference, in both orders.

        Args:
            inputs: the sources.
            candidates: lists of candidates.
            ref_candidates: a reference for each source; they count before ``ref_mode``.
            instructions: as of :meth:`compare`.
            ref_mode: which candidate is the reference: ``longest`` (default), ``shortest``, ``median_length``,
                ``first`` or ``last``.
            mode: the same, in the spelling of LLM-Blender's README, which its code passes over.
            return_scores: rewards, 0.0 for the reference itself; else ranks from 1, equal ones shared.

        Raises:
            InputError: if the mode is unknown, or both spellings say something else.
        """
        if ref_mode and mode and ref_mode != mode:
            raise InputError(f"mode and ref_mode are one setting; got {mode!r} and {ref_mode!r}")
        chosen = ref_mode or mode or "longest"
        if chosen not in REF_MODES:
            raise InputError(f"ref_mode must be one of {', '.join(REF_MODES)}; got {chosen!r}")
        if ref_candidates is None:
            ref_candidates = [choose_reference(texts, chosen) for texts in candidates]
        if len(ref_candidates) != len(candidates):
            raise InputError(f"each list needs one reference; got {len(ref_candidates)} for {len(candidates)} lists")
        lists = [[reference, *texts] for reference, texts in zip(ref_candidates, candidates, strict=True)]
        comparer = self.comparer(inputs, lists, instructions)
        with torch.inference_mode():
            comparer.ask([(index, (place, 0)) for index, texts in enumerate(lists) for place in range(1, len(texts))])
        rewards = [
            [comparer.margin(index, place, 0) for place in range(1, len(texts))] for index, texts in enumerate(lists)
        ]
        return rewards if return_scores else [[1 + sum(other > one for other in row) for one in row] for row in rewards]

    def best_of_n(
        self,
        inputs: Sequence[str],
        candidates: Sequence[Sequence[str]],
        n: int = 1,
        *,
        instructions: Sequence[str] | None = None,
        inference_mode: str = "bubble",
    ) -> list[list[str]]:
        """The best candidates of each list, best first.

        Args:
            inputs: the sources.
            candidates: lists of candidates.
            n: how many are given; all where a list has fewer.
            instructions: as of :meth:`compare`.
            inference_mode: as in the settings; ``bubble`` makes ``n`` passes, so that all n places are right.

        Raises:
            InputError: if ``n`` is less than 1, or the mode is unknown.
        """
        return self._ends(inputs, candidates, instructions, n, inference_mode, 1)

    def worst_of_n(
        self,
        inputs: Sequence[str],
        candidates: Sequence[Sequence[str]],
        n: int = 1,
        *,
        instructions: Sequence[str] | None = None,
        inference_mode: str = "bubble",
    ) -> list[list[str]]:
        """The worst candidates of each list, worst first; see :meth:`best_of_n`."""
        return self._ends(inputs, candidates, instructions, n, inference_mode, -1)

    def _ends(
        self,
        inputs: Sequence[str],
        candidates: Sequence[Sequence[str]],
        instructions: Sequence[str] | None,
        n: int,
        inference_mode: str,
        sign: int,
    ) -> list[list[str]]:
        if n < 1:
            raise InputError(f"n must be at least 1; got {n}")
        comparer = self.comparer(inputs, candidates, instructions)
        settings = self.layout.settings
        plan = Plan.of(settings)._replace(mode=inference_mode, num_passes=n).checked()
        best: list[list[str]] = [[] for _ in candidates]
        with torch.inference_mode():
            for index, found in comparer.sort(plan, sign):
                best[index] = [candidates[index][position] for position in found.order[:n]]
        return best

    def comparer(
        self, inputs: Sequence[str], candidates: Sequence[Sequence[str]], instructions: Sequence[str] | None
    ) -> Comparer:
        """Compares candidates of these sources.

        Raises:
            InputError: if there are not as many sources as lists.
            TypeError: if the student does not compare.
        """
        if not isinstance(self.layout, PairLayout):
            raise TypeError(f"only a pair_ranker compares candidates; this one is {self.layout.settings.student}")
        before = [""] * len(inputs) if instructions is None else instructions
        if not len(inputs) == len(candidates) == len(before):
            raise InputError(
                f"each source needs its candidates (and instruction); got {len(inputs)} sources, {len(candidates)} "
                f"lists, {len(before)} instructions"
            )
        lists = [
            Candidates("", f"{start}{source}", tuple(Passage(str(place), text) for place, text in enumerate(texts)), ())
            for start, source, texts in zip(before, inputs, candidates, strict=True)
        ]
        return Comparer(self.model, self.layout, self.batcher, lists, Plan.of(self.layout.settings).orders)


def choose_reference(candidates: Sequence[str], mode: str) -> str:
    """The candidate that the others are compared with; the first of equal lengths.

    >>> choose_reference(["bb", "a", "ccc"], "median_length")
    'bb'
    """
    if mode in ("first", "last"):
        return candidates[0 if mode == "first" else -1]
    if mode == "longest":
        return max(candidates, key=len)
    return sorted(candidates, key=len)[0 if mode == "shortest" else len(candidates) // 2]


def check_conversations(number: int, one: Sequence[Mapping[str, str]], two: Sequence[Mapping[str, str]]) -> None:
    """Refuse two conversations that cannot be compared.

    Raises:
        InputError: if turns do not alternate, or the user's differ.
    """
    for turns in (one, two):
        roles = [turn["role"].upper() for turn in turns]
        if not turns or roles != ["USER", "ASSISTANT"] * (len(turns) // 2):
            raise InputError(f"conversation {number}: turns must be USER, ASSISTANT, USER, …; got {', '.join(roles)}")
    if [turn["content"] for turn in one[::2]] != [turn["content"] for turn in two[::2]]:
        raise InputError(
            f"conversation {number}: the user must say the same in both; compare answers to the same turns"
        )

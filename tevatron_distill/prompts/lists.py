"""Prompts that show a window of passages under identifiers and ask for their order: listwise teachers and students."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tevatron_distill.permutation import letters_of, place_of
from tevatron_distill.prompts.text import cut_words, fill, render_passage
from tevatron_distill.prompts.wording import AnswerKind, Parsed, Wording, named_order, plain_brackets, spoken
from tevatron_distill.schema import Passage


@dataclass(frozen=True, slots=True)
class ListPrompt:
    """A prompt that shows passages under identifiers and asks for all of them, best first.

    Attributes:
        name: its key in the table.
        system: what the model is told to be.
        first: the user's words before the passages, with ``{num}`` and ``{query}``.
        each: a passage, with ``{rank}`` for its identifier and ``{passage}``.
        last: the user's words behind the passages, with ``{num}`` and ``{query}``.
        replies: what the assistant says to ``first`` and to ``each``, which are turns of their own then; without
            them the user says everything in one turn.
        base, system_gap, begins: as in `Wording`.
        kind: identifiers that are ``numbers`` or ``letters``.
        answer: ``text`` for a generated order, ``choice`` for the logits of the identifiers at the first place.
        max_words: words of each passage that are kept.
        passage_style: key of `PASSAGE_STYLES`.
    """

    name: str
    system: str
    first: str
    each: str
    last: str
    replies: tuple[str, str] | None = None
    base: str = ""
    kind: Literal["numbers", "letters"] = "numbers"
    answer: AnswerKind = "text"
    max_words: int = 300
    passage_style: str = "tevatron"
    system_gap: str = "\n\n"
    begins: bool = False

    @property
    def answer_prefix(self) -> str:
        """How a proper answer begins, before its first identifier."""
        return "["

    def identifiers(self, num_passages: int) -> tuple[str, ...]:
        """``1``, ``2``, … or ``A``, ``B``, …; behind ``Z`` come ``AA``, ``AB``, …

        >>> LIST_PROMPTS["rank_zephyr_alpha"].identifiers(3)
        ('A', 'B', 'C')
        """
        if self.kind == "numbers":
            return tuple(str(number + 1) for number in range(num_passages))
        return tuple(letters_of(place) for place in range(num_passages))

    def answer_text(self, order: Sequence[int]) -> str:
        """A proper answer that names positions, best first.

        >>> LIST_PROMPTS["rank_zephyr"].answer_text([1, 0, 2])
        '[2] > [1] > [3]'
        """
        names = self.identifiers(max(order, default=-1) + 1)
        return " > ".join(f"[{names[position]}]" for position in order)

    def passage_text(self, passage: Passage) -> str:
        """The passage as it stands in the prompt; ``[12]`` in it becomes ``(12)``, so that it names no passage."""
        return cut_words(plain_brackets(render_passage(passage, self.passage_style)), self.max_words)

    def labels(self, num_passages: int) -> tuple[str, ...]:
        """The identifiers."""
        return self.identifiers(num_passages)

    def render(self, query: str, passages: Sequence[str], *, is_encoder_decoder: bool) -> Wording:
        """The wording with query and passages; it is the same for every kind of model."""
        frame = {"num": str(len(passages)), "query": plain_brackets(query)}
        first, last = fill(self.first, frame), fill(self.last, frame)
        shown = [
            {"rank": name, "passage": text}
            for name, text in zip(self.identifiers(len(passages)), passages, strict=True)
        ]
        turns = [("system", self.system)] if self.system else []
        if self.replies is None:
            lines = "\n".join(fill(self.each, values) for values in shown)
            turns.append(("user", f"{first}\n\n{lines}\n{last}"))
        else:
            turns += [("user", first), ("assistant", self.replies[0])]
            for values in shown:
                turns += [("user", fill(self.each, values)), ("assistant", fill(self.replies[1], values))]
            turns.append(("user", last))
        prefix = self.answer_prefix if self.answer == "choice" else ""
        return Wording(tuple(turns), prefix, self.base, gap="", system_gap=self.system_gap, begins=self.begins)

    def target(self, query: str) -> str:
        """Nothing: no likelihood is asked."""
        return ""

    def longest_answer(self, num_passages: int) -> str:
        """All identifiers in a row."""
        return self.answer_text(range(num_passages)) if self.answer == "text" else ""

    def parse(self, text: str, num_passages: int) -> Parsed:
        """The order that an answer names, repaired as published.

        Numbers are read wherever they stand. A letter is read in brackets; where no letter has them, it is read alone,
        but only from an answer that is letters and separators, so that the article ``A`` in prose is no passage.
        """
        said = spoken(text)
        if self.kind == "numbers":
            # Digits alone: a run of hundreds of them, as of a broken model, is out of range and no error.
            named = [int(digits[:9]) - 1 for digits in re.findall(r"[0-9]+", said)]
            one = r"\[[0-9]+\]"
        else:
            name = "[A-Z]" if num_passages <= 26 else "[A-Z]{1,2}"
            letters = re.findall(rf"\[({name})\]", said)
            if not letters and re.fullmatch(rf"{name}(?:[\s>,;.]+{name})*[\s.]*", said):
                letters = re.findall(name, said)
            named = [place_of(one) for one in letters]
            one = rf"\[{name}\]"
        return named_order(named, num_passages, well_formed=bool(re.fullmatch(rf"{one}(?:\s*>\s*{one})*", said)))


_ORDER = (
    "Search Query: {query}.\nRank the {num} passages above based on their relevance to the search query. All the "
    "passages should be included and listed using identifiers, in descending order of relevance. The output format "
    "should be [] > [], e.g., "
)
_RANK_ZEPHYR = "You are RankLLM, an intelligent assistant that can rank passages based on their relevancy to the query"
_RANK_LLM_GAP = "\n "  # where a chat template takes no system turn (RankLLM, training/)
_CONCISELY = "Answer concisely and directly and only respond with the ranking results, do not say any word or explain."

LIST_PROMPTS: dict[str, ListPrompt] = {
    # sunnweiwei/RankGPT, rank_gpt.py
    "rank_gpt": ListPrompt(
        name="rank_gpt",
        system=(
            "You are RankGPT, an intelligent assistant that can rank passages based on their relevancy to the query."
        ),
        first=(
            "I will provide you with {num} passages, each indicated by number identifier []. \n"
            "Rank the passages based on their relevance to query: {query}."
        ),
        each="[{rank}] {passage}",
        last=(
            "Search Query: {query}. \nRank the {num} passages above based on their relevance to the search query. The "
            "passages should be listed in descending order using identifiers. The most relevant passages should be "
            "listed first. The output format should be [] > [], e.g., [1] > [2]. Only response the ranking results, "
            "do not say any word or explain."
        ),
        replies=("Okay, please provide the passages.", "Received passage [{rank}]."),
    ),
    # castorini/rank_llm: prompts of its recorded runs, whose example varies
    "rank_vicuna": ListPrompt(
        name="rank_vicuna",
        system=(
            "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
            "detailed, and polite answers to the user's questions."
        ),
        first=(
            "I will provide you with {num} passages, each indicated by a numerical identifier []. "
            "Rank the passages based on their relevance to the search query: {query}."
        ),
        each="[{rank}] {passage}",
        last=f"{_ORDER}[4] > [2], Only respond with the ranking results, do not say any word or explain. ",
        base="{system} USER: {user} ASSISTANT:",
    ),
    # castorini/rank_llm, rank_zephyr_template.yaml
    "rank_zephyr": ListPrompt(
        name="rank_zephyr",
        system=_RANK_ZEPHYR,
        first=(
            "I will provide you with {num} passages, each indicated by a numerical identifier []. "
            "Rank the passages based on their relevance to the search query: {query}."
        ),
        each="[{rank}] {passage}",
        last=f"{_ORDER}[2] > [1], {_CONCISELY}",
        system_gap=_RANK_LLM_GAP,
        begins=True,
    ),
    # castorini/rank_llm, rank_zephyr_alpha_template.yaml
    "rank_zephyr_alpha": ListPrompt(
        name="rank_zephyr_alpha",
        system=_RANK_ZEPHYR,
        first=(
            "I will provide you with {num} passages, each indicated by an alphabetical identifier []. "
            "Rank the passages based on their relevance to the search query: {query}."
        ),
        each="[{rank}] {passage}",
        last=f"{_ORDER}[B] > [A], {_CONCISELY}",
        kind="letters",
        system_gap=_RANK_LLM_GAP,
        begins=True,
    ),
}
"""Prompts of listwise teachers and students."""

"""What every prompt is: words for a model, and how its answer is read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol, TypeAlias

from tevatron_distill.prompts.text import fill
from tevatron_distill.schema import Passage

AnswerKind: TypeAlias = Literal["choice", "text", "likelihood"]
"""The logits of labels, generated text, or the log-probability of a text."""

Problem: TypeAlias = Literal["wrong_format", "repetition", "missing", "out_of_range"]

PROBLEMS: tuple[Problem, ...] = ("wrong_format", "repetition", "missing", "out_of_range")
"""What can be wrong with a generated answer; all of it is repaired, and counted."""


@dataclass(frozen=True, slots=True)
class Wording:
    """A question to a language model, and the words put into its mouth.

    Attributes:
        turns: ``(role, text)`` with the roles ``system``, ``user`` and ``assistant``, in the order spoken.
        prefix: how the answer begins, behind the last turn.
        base: how a model without a chat template is shown the turns, with ``{system}`` and ``{user}``; the prefix
            follows. Without it the turns stand below each other.
        gap: what stands between the prefix and a label. Where the answer begins with the label (no prefix, and a chat
            template, an encoder-decoder or a framed prompt), nothing does.
        framed: ``base`` is the model's own chat frame with its special tokens: the tokenizer's chat template is not
            used, and no special token is added.
        system_gap: what stands between what the system says and the user's first words where they are one turn.
        begins: a chat template's text gets the token that begins a sequence where the template leaves it to the
            tokenizer (Zephyr's), as RankLLM's prompts do; it never stands twice.
    """

    turns: tuple[tuple[str, str], ...]
    prefix: str = ""
    base: str = ""
    gap: str = " "
    framed: bool = False
    system_gap: str = "\n\n"
    begins: bool = False

    @property
    def system(self) -> str:
        """What the model is told to be; empty for nothing."""
        return "\n\n".join(text for role, text in self.turns if role == "system")

    @property
    def user(self) -> str:
        """The last thing that the user says."""
        return [text for role, text in self.turns if role == "user"][-1]

    def text(self) -> str:
        """The turns as plain text, without the prefix."""
        if self.base:
            return fill(self.base, {"system": self.system, "user": self.user})
        return "\n\n".join(text for _, text in self.turns)

    def messages(self, *, keep_system: bool = True) -> list[dict[str, str]]:
        """The turns for a chat template.

        Args:
            keep_system: False puts what the system says in front of the user's first words, as not every chat
                template takes a system message.
        """
        turns = list(self.turns)
        if not keep_system and self.system:
            turns = [turn for turn in turns if turn[0] != "system"]
            turns[0] = (turns[0][0], f"{self.system}{self.system_gap}{turns[0][1]}")
        return [{"role": role, "content": text} for role, text in turns]

    def filled(self, values: Mapping[str, str]) -> Wording:
        """The same with the fields of its turns filled in."""
        return replace(self, turns=tuple((role, fill(text, values)) for role, text in self.turns))


def ask(user: str, *, system: str = "", prefix: str = "", base: str = "", gap: str = " ") -> Wording:
    """A question in one user turn, with a system turn before it where there is one."""
    turns = ((("system", system),) if system else ()) + (("user", user),)
    return Wording(turns, prefix, base, gap)


class Parsed(NamedTuple):
    """What a generated answer says.

    Attributes:
        order: all positions of the passages shown, ``0..n-1``, best first; those not named follow in the order shown.
        num_named: how many leading places are the model's word.
        problems: what was repaired, of `PROBLEMS`.
    """

    order: tuple[int, ...]
    num_named: int
    problems: tuple[Problem, ...]


class Prompt(Protocol):
    """Words about some passages of a query, and what their answer means.

    Attributes:
        name: its key in its table.
    """

    @property
    def name(self) -> str:
        """Its key in its table."""

    @property
    def answer(self) -> AnswerKind:
        """What is asked of the engine: the logits of the labels, a text, or the likelihood of the target."""

    def passage_text(self, passage: Passage) -> str:
        """The passage as it stands in the prompt: rendered, cut at words, cleaned."""

    def labels(self, num_passages: int) -> tuple[str, ...]:
        """``choice``: the labels whose logits are compared, in the order of the passages shown."""

    def render(self, query: str, passages: Sequence[str], *, is_encoder_decoder: bool) -> Wording:
        """The wording with the query and the passages' texts filled in."""

    def target(self, query: str) -> str:
        """``likelihood``: the text whose log-probability is asked; empty otherwise."""

    def longest_answer(self, num_passages: int) -> str:
        """``text``: a full proper answer, whose tokens are the room it needs; empty otherwise."""

    def parse(self, text: str, num_passages: int) -> Parsed:
        """``text``: what an answer says, repaired."""


def spoken(text: str) -> str:
    """An answer without the thoughts of a reasoning model, which end at ``</think>``.

    >>> spoken("<think>[2] is longer</think> [1] > [2]")
    '[1] > [2]'
    """
    return text.rpartition("</think>")[2].strip()


def named_order(named: Sequence[int], num_passages: int, *, well_formed: bool) -> Parsed:
    """An order from the positions that an answer names, repaired as published.

    The first mention of a position counts, one that was not shown is dropped, and those not named follow in the order
    shown.

    Args:
        named: 0-based positions as they are named.
        num_passages: how many were shown.
        well_formed: whether the answer looks as it was asked to.

    Source:
        Sun et al. 2023, arXiv 2304.09542 (RankGPT, ``clean_response``).

    >>> named_order([2, 0, 2, 7], 4, well_formed=True)
    Parsed(order=(2, 0, 1, 3), num_named=2, problems=('repetition', 'missing', 'out_of_range'))
    """
    shown = [position for position in named if 0 <= position < num_passages]
    kept = list(dict.fromkeys(shown))
    found: dict[Problem, bool] = {
        "wrong_format": not well_formed,
        "repetition": len(kept) < len(shown),
        "missing": len(kept) < num_passages,
        "out_of_range": len(shown) < len(named),
    }
    rest = [position for position in range(num_passages) if position not in set(kept)]
    return Parsed((*kept, *rest), len(kept), tuple(problem for problem in PROBLEMS if found[problem]))


def plain_brackets(text: str) -> str:
    """A text in which nothing looks like the identifier of a passage: ``[12]`` becomes ``(12)``.

    >>> plain_brackets("as shown in [12] and [B]")
    'as shown in (12) and (B)'
    """
    return re.sub(r"\[(\d+|[A-Z])\]", r"(\1)", text)

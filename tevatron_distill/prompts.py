"""Every prompt, teacher and student alike: published wordings to the letter, and how passages are put into them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tevatron_distill.schema import Passage

# Han, Kana and their extensions: written without spaces, so that each character counts as a word.
_IDEOGRAPH = (
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
# The punctuation that goes with them belongs to the character before it.
_MARKS = "\u3001-\u3004\u3008-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
_WORD = re.compile(f"[{_IDEOGRAPH}][{_MARKS}]*|[^ {_IDEOGRAPH}]+")


def cut_words(text: str, max_words: int) -> str:
    """The first ``max_words`` words of a text, with its whitespace collapsed.

    A word is what stands between spaces; each Han or Kana character counts as one, so that text written without
    spaces is cut too.

    Args:
        text: any text.
        max_words: how many words are kept, 0 or more.

    >>> cut_words("  one two  three ", 2)
    'one two'
    >>> cut_words("\u6211\u4eec\u559c\u6b22\u8bfb\u4e66\u3002", 3)
    '\u6211\u4eec\u559c'
    """
    collapsed = " ".join(text.split())
    end = 0
    for count, word in enumerate(_WORD.finditer(collapsed)):
        if count == max_words:
            return collapsed[:end]
        end = word.end()
    return collapsed


def _render_tevatron(passage: Passage) -> str:
    return f"{passage.title} {passage.text}".strip()


def _render_instructdistill(passage: Passage) -> str:
    return f"Title: {passage.title} Content: {passage.text}" if passage.title else passage.text


PASSAGE_STYLES: dict[str, Callable[[Passage], str]] = {
    "tevatron": _render_tevatron,
    "instructdistill": _render_instructdistill,
}
"""How title and text become one string: ``title text``, or ``Title: … Content: …`` (plain text without a title)."""


def render_passage(passage: Passage, style: str) -> str:
    """A passage as one string, its whitespace collapsed.

    >>> render_passage(Passage("7", "It purrs.", "Cat"), "instructdistill")
    'Title: Cat Content: It purrs.'
    """
    return " ".join(PASSAGE_STYLES[style](passage).split())


def _fill(template: str, values: Mapping[str, str]) -> str:
    # One pass, so that braces inside a query or a passage are text.
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), template)


@dataclass(frozen=True, slots=True)
class PointPrompt:
    """A prompt about one passage, answered by one word.

    Attributes:
        name: its key in the table.
        template: the text, with ``{query}`` and ``{passage}`` once each.
        max_words: words of the passage that are kept, counted after the title is rendered.
        passage_style: key of `PASSAGE_STYLES`.
        answer: the word whose logit is the score.
    """

    name: str
    template: str
    max_words: int
    passage_style: str
    answer: str = "Yes"

    def passage_text(self, passage: Passage) -> str:
        """The passage as it stands in the prompt."""
        return cut_words(render_passage(passage, self.passage_style), self.max_words)

    def split(self, query: str, passage: Passage) -> tuple[str, str, str]:
        """Text before the passage, the passage, text behind it; only the passage may be shortened further."""
        head, tail = self.template.split("{passage}")
        return _fill(head, {"query": query}), self.passage_text(passage), _fill(tail, {"query": query})

    def render(self, query: str, passage: Passage) -> str:
        """The whole prompt."""
        return "".join(self.split(query, passage))


STUDENT_PROMPTS: dict[str, PointPrompt] = {
    # sunnweiwei/RankGPT, InstructDistill/instruction_distill.py
    "instructdistill": PointPrompt(
        name="instructdistill",
        template=(
            "Predict whether the given passage answer the question.\n\nQuestion: {query}\n\nPassage: {passage}\n\n"
            "Does the passage answer the question?"
        ),
        max_words=200,
        passage_style="instructdistill",
    ),
}
"""Prompts of pointwise students."""


@dataclass(frozen=True, slots=True)
class Wording:
    """A question to a language model, and the words put into its mouth before the label.

    Attributes:
        user: the question.
        prefix: how the answer begins; the label comes right behind it.
        system: what the model is told to be; empty for none.
        base: how a model without a chat template is shown the turns; the prefix follows.
    """

    user: str
    prefix: str
    system: str = ""
    base: str = "{user}"

    def text(self) -> str:
        """The turns as plain text, without the prefix."""
        return _fill(self.base, {"system": self.system, "user": self.user})

    def message(self) -> str:
        """The turns before the answer as one user message (not every chat template takes a system message)."""
        return f"{self.system}\n\n{self.user}" if self.system else self.user


@dataclass(frozen=True, slots=True)
class ChoicePrompt:
    """A prompt that shows passages under labels and asks for the label of the most relevant one.

    Attributes:
        name: its key in the table.
        seq2seq: wording for encoder-decoder models; the prefix begins the decoder's output.
        causal: wording for decoder-only models.
        labels: one label a passage, in the order shown; the user texts hold ``{query}`` and, in lower case,
            a field for each label.
        max_words: words of each passage that are kept, counted after the title is rendered.
        passage_style: key of `PASSAGE_STYLES`.
    """

    name: str
    seq2seq: Wording
    causal: Wording
    labels: tuple[str, ...] = ("A", "B")
    max_words: int = 100
    passage_style: str = "instructdistill"

    def passage_text(self, passage: Passage) -> str:
        """The passage as it stands in the prompt."""
        return cut_words(render_passage(passage, self.passage_style), self.max_words)

    def render(self, query: str, passages: Sequence[str], *, is_encoder_decoder: bool) -> Wording:
        """The wording with query and passage texts filled in.

        Raises:
            ValueError: if there are not as many passages as labels.
        """
        wording = self.seq2seq if is_encoder_decoder else self.causal
        shown = dict(zip((label.lower() for label in self.labels), passages, strict=True))
        return Wording(_fill(wording.user, {"query": query, **shown}), wording.prefix, wording.system, wording.base)


_LLM_RANKERS_PAIR = (
    'Given a query "{query}", which of the following two passages is more relevant to the query?\n\n'
    'Passage A: "{a}"\n\nPassage B: "{b}"\n\nOutput Passage A or Passage B:'
)

PAIR_PROMPTS: dict[str, ChoicePrompt] = {
    # sunnweiwei/RankGPT, InstructDistill/pairwise_ranking.py
    "instructdistill": ChoicePrompt(
        name="instructdistill",
        seq2seq=Wording(
            user=(
                'Question: Given a query "{query}", which of the following two passages is more relevant to the '
                "query?\n\npassage A: {a}\n\npassage B: {b}\n\nOutput the identifier of the more relevant passage. "
                "The answer must be passage A or passage B.\nAnswer:"
            ),
            prefix="passage",
        ),
        causal=Wording(
            system="You are a pairwise passage ranker that can judge which passages is more relevant to the query.",
            user=(
                'Given a query "{query}", which of the following two passages is more relevant to the query?\n\n'
                "Passage A: {a}\n\nPassage B: {b}\n\nOutput the identifier of the more relevant passage. "
                "The answer must be Passage A or Passage B."
            ),
            base="### System:\n{system}\n\n### User:\n{user}\n\n### Assistant:\n",
            prefix="The more relevant passage is Passage",
        ),
    ),
    # ielab/llm-rankers, llmrankers/pairwise.py
    "llm_rankers": ChoicePrompt(
        name="llm_rankers",
        seq2seq=Wording(user=_LLM_RANKERS_PAIR, prefix="Passage"),
        causal=Wording(user=_LLM_RANKERS_PAIR, prefix=" Passage:"),
        passage_style="tevatron",
    ),
}
"""Prompts of pairwise teachers (pairwise ranking prompting)."""

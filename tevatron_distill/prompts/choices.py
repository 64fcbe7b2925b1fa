"""Prompts that show passages under labels and ask for the best one: pairs and sets."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass

from tevatron_distill.prompts.text import WHOLE, cut_words, fill, render_passage
from tevatron_distill.prompts.wording import AnswerKind, Parsed, Wording, ask, spoken
from tevatron_distill.schema import InputError, Passage


@dataclass(frozen=True, slots=True)
class ChoicePrompt:
    """A prompt that shows passages under labels and asks for the label of the most relevant one.

    Attributes:
        name: its key in the table.
        seq2seq: wording for encoder-decoder models; the prefix begins the decoder's output.
        causal: wording for decoder-only models.
        label_names: the labels, in the order shown. The user texts hold ``{query}`` and either ``{a}``, ``{b}``, …
            for the passages or ``{passages}``.
        each: a passage among ``{passages}``, with ``{label}`` and ``{passage}``; with it a prompt shows as many
            passages as are asked about, and without it as many as there are labels.
        answer: ``choice``, or ``text`` for a generated label.
        soft: the published aggregation adds probabilities, not votes.
        max_words: words of each passage that are kept, counted after the title is rendered.
        passage_style: key of `PASSAGE_STYLES`.
    """

    name: str
    seq2seq: Wording
    causal: Wording
    label_names: tuple[str, ...] = ("A", "B")
    each: str = ""
    answer: AnswerKind = "choice"
    soft: bool = False
    max_words: int = 100
    passage_style: str = "instructdistill"

    def passage_text(self, passage: Passage) -> str:
        """The passage as it stands in the prompt."""
        return cut_words(render_passage(passage, self.passage_style), self.max_words)

    def labels(self, num_passages: int) -> tuple[str, ...]:
        """One label a passage.

        Raises:
            InputError: if there are too few labels.
        """
        if num_passages > len(self.label_names) or (num_passages < len(self.label_names) and not self.each):
            raise InputError(
                f"--prompt {self.name} shows {'up to ' if self.each else ''}{len(self.label_names)} passages under "
                f"{self.label_names[0]}..{self.label_names[-1]}; got {num_passages}; ask about fewer at a time"
            )
        return self.label_names[:num_passages]

    def render(self, query: str, passages: Sequence[str], *, is_encoder_decoder: bool) -> Wording:
        """The wording with query and passage texts filled in.

        Raises:
            InputError: if there are more passages than labels.
        """
        labels = self.labels(len(passages))
        shown = dict(zip(string.ascii_lowercase, passages, strict=False))
        texts = [
            fill(self.each, {"label": label, "passage": text}) for label, text in zip(labels, passages, strict=True)
        ]
        wording = self.seq2seq if is_encoder_decoder else self.causal
        return wording.filled({"query": query, **shown, "passages": "\n\n".join(texts)})

    def target(self, query: str) -> str:
        """Nothing: no likelihood is asked."""
        return ""

    def longest_answer(self, num_passages: int) -> str:
        """A label, with the word before it that a model may say again."""
        return f"Passage {self.labels(num_passages)[-1]}." if self.answer == "text" else ""

    def parse(self, text: str, num_passages: int) -> Parsed:
        """The label that an answer names; without one the passages stay in the order shown.

        A label stands behind the word passage, in brackets or quotes, or alone. An ``A`` that begins a sentence is
        an article.
        """
        said = spoken(text)
        labels = self.labels(num_passages)
        names = "|".join(self.label_names)
        match = (
            re.search(rf"(?i:\bpassage)\W{{0,3}}({names})\b", said)
            or re.search(rf"""[\["'(*]({names})[\]"')*]""", said)
            or re.match(rf"\W*({names})(?!\w|['’]\w|[ \t]+\w)", said)
        )
        if match is None:
            return Parsed(tuple(range(num_passages)), 0, ("wrong_format",))
        if match[1] not in labels:
            return Parsed(tuple(range(num_passages)), 0, ("out_of_range",))
        best = labels.index(match[1])
        return Parsed((best, *(place for place in range(num_passages) if place != best)), 1, ())


_LLM_RANKERS_PAIR = (
    'Given a query "{query}", which of the following two passages is more relevant to the query?\n\n'
    'Passage A: "{a}"\n\nPassage B: "{b}"\n\nOutput Passage A or Passage B:'
)
_DUOT5 = ask("Query: {query} Document0: {a} Document1: {b} Relevant: ")

PAIR_PROMPTS: dict[str, ChoicePrompt] = {
    # sunnweiwei/RankGPT, InstructDistill/pairwise_ranking.py
    "instructdistill": ChoicePrompt(
        name="instructdistill",
        seq2seq=ask(
            'Question: Given a query "{query}", which of the following two passages is more relevant to the '
            "query?\n\npassage A: {a}\n\npassage B: {b}\n\nOutput the identifier of the more relevant passage. "
            "The answer must be passage A or passage B.\nAnswer:",
            prefix="passage",
        ),
        causal=ask(
            'Given a query "{query}", which of the following two passages is more relevant to the query?\n\n'
            "Passage A: {a}\n\nPassage B: {b}\n\nOutput the identifier of the more relevant passage. "
            "The answer must be Passage A or Passage B.",
            system="You are a pairwise passage ranker that can judge which passages is more relevant to the query.",
            base="### System:\n{system}\n\n### User:\n{user}\n\n### Assistant:\n",
            prefix="The more relevant passage is Passage",
        ),
    ),
    # ielab/llm-rankers, llmrankers/pairwise.py
    "llm_rankers": ChoicePrompt(
        name="llm_rankers",
        seq2seq=ask(_LLM_RANKERS_PAIR, prefix="Passage"),
        causal=ask(_LLM_RANKERS_PAIR, prefix=" Passage:"),
        passage_style="tevatron",
    ),
    # castorini/rank_llm, duot5_template.yaml; Pradeep et al. 2021, arXiv 2101.05667. The labels say whether the
    # first passage is the more relevant one.
    "duot5": ChoicePrompt(
        name="duot5",
        seq2seq=_DUOT5,
        causal=_DUOT5,
        label_names=("true", "false"),
        soft=True,
        max_words=WHOLE,
        passage_style="tevatron",
    ),
}
"""Prompts of pairwise teachers."""

_LLM_RANKERS_SET = (
    'Given a query "{query}", which of the following passages is the most relevant one to the query?\n\n{passages}\n\n'
    "Output only the passage label of the most relevant passage:"
)

SET_PROMPTS: dict[str, ChoicePrompt] = {
    # ielab/llm-rankers, llmrankers/setwise.py
    "llm_rankers": ChoicePrompt(
        name="llm_rankers",
        seq2seq=ask(_LLM_RANKERS_SET, prefix="Passage"),
        causal=ask(_LLM_RANKERS_SET, prefix=" Passage:"),
        label_names=tuple("ABCDEFGHIJKLMNOPQRSTUVW"),
        each='Passage {label}: "{passage}"',
        passage_style="tevatron",
    ),
}
"""Prompts of setwise teachers."""

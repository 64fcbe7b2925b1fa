"""Prompts about one passage: teachers that judge passages one by one, and pointwise students."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tevatron_distill.prompts.text import PASSAGE_STYLES, WHOLE, cut_words, fill, render_passage
from tevatron_distill.prompts.wording import AnswerKind, Parsed, Wording
from tevatron_distill.schema import Passage

DEFAULT_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"


@dataclass(frozen=True, slots=True)
class PointPrompt:
    """A prompt about one passage, answered by one word, or by the query itself.

    Attributes:
        name: its key in the table.
        template: the user's words, with ``{passage}`` once, and where they have them ``{query}`` and
            ``{instruction}``.
        max_words: words of the passage that are kept, counted after the title is rendered.
        passage_style: key of `PASSAGE_STYLES`.
        yes: the word whose logit is the score.
        no: the word that it is compared with, so that the score is a probability; empty for none.
        answer: ``choice``, or ``likelihood`` for that of the query.
        instruction: what a passage is wanted for, where the prompt says it.
        system: what the model is told to be.
        base, prefix, gap, framed: as in `Wording`.
    """

    name: str
    template: str
    max_words: int
    passage_style: str
    yes: str = "Yes"
    no: str = ""
    answer: AnswerKind = "choice"
    instruction: str = ""
    system: str = ""
    base: str = ""
    prefix: str = ""
    gap: str = " "
    framed: bool = False

    def passage_text(self, passage: Passage) -> str:
        """The passage as it stands in the prompt; with its own whitespace where no words are cut."""
        if self.max_words == WHOLE:
            return PASSAGE_STYLES[self.passage_style](passage)
        return cut_words(render_passage(passage, self.passage_style), self.max_words)

    def split(self, query: str, passage: Passage) -> tuple[str, str, str]:
        """Text before the passage, the passage, text behind it; only the passage may be shortened further."""
        head, tail = self.template.split("{passage}")
        values = {"query": query, "instruction": self.instruction}
        return fill(head, values), self.passage_text(passage), fill(tail, values)

    def labels(self, num_passages: int) -> tuple[str, ...]:
        """The word for yes, and the word for no where there is one."""
        return (self.yes, self.no) if self.no else (self.yes,)

    def render(self, query: str, passages: Sequence[str], *, is_encoder_decoder: bool) -> Wording:
        """The wording for one passage; it is the same for every kind of model.

        Raises:
            ValueError: if there is not one passage.
        """
        [passage] = passages
        system = (("system", self.system),) if self.system else ()
        wording = Wording((*system, ("user", self.template)), self.prefix, self.base, self.gap, self.framed)
        return wording.filled({"query": query, "passage": passage, "instruction": self.instruction})

    def target(self, query: str) -> str:
        """The query, where its likelihood is the score."""
        return query if self.answer == "likelihood" else ""

    def longest_answer(self, num_passages: int) -> str:
        """Nothing: no text is generated."""
        return ""

    def parse(self, text: str, num_passages: int) -> Parsed:
        """Nothing is generated, so there is nothing to read.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"the prompt {self.name} is answered by numbers; got the text {text!r}")


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

POINT_PROMPTS: dict[str, PointPrompt] = {
    # ielab/llm-rankers, llmrankers/pointwise.py; its 128 tokens of a passage are about 100 words
    "llm_rankers_yes_no": PointPrompt(
        name="llm_rankers_yes_no",
        template="Passage: {passage}\nQuery: {query}\nDoes the passage answer the query? Answer 'Yes' or 'No'",
        max_words=100,
        passage_style="tevatron",
        no="No",
    ),
    "llm_rankers_qlm": PointPrompt(
        name="llm_rankers_qlm",
        template="Passage: {passage}\nPlease write a question based on this passage.",
        max_words=100,
        passage_style="tevatron",
        yes="",
        answer="likelihood",
    ),
    # castorini/rank_llm, monot5_template.yaml; Nogueira et al. 2020, arXiv 2003.06713
    "monot5": PointPrompt(
        name="monot5",
        template="Query: {query} Document: {passage} Relevant: ",
        max_words=WHOLE,
        passage_style="tevatron",
        yes="true",
        no="false",
    ),
    # the model card of Qwen/Qwen3-Reranker; its newer chat templates know other roles and would show nothing
    "qwen3_reranker": PointPrompt(
        name="qwen3_reranker",
        template="<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {passage}",
        max_words=WHOLE,
        passage_style="tevatron",
        yes="yes",
        no="no",
        instruction=DEFAULT_INSTRUCTION,
        system=(
            "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
            'Note that the answer can only be "yes" or "no".'
        ),
        base=(
            "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"
            "<think>\n\n</think>\n\n"
        ),
        framed=True,
    ),
    # FlagOpen/FlagEmbedding, the model card of BAAI/bge-reranker-v2-gemma
    "bge_gemma": PointPrompt(
        name="bge_gemma",
        template=(
            "A: {query}\nB: {passage}\nGiven a query A and a passage B, determine whether the passage contains an "
            "answer to the query by providing a prediction of either 'Yes' or 'No'."
        ),
        max_words=WHOLE,
        passage_style="tevatron",
        gap="",
    ),
}
"""Prompts of pointwise teachers: one label is a logit, two are a probability, none is the query's likelihood."""

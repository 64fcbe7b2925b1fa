"""A student's row as one text: what other programs render by a chat template."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from typing import Any, NamedTuple

from tevatron_distill.export.rescoring import CASES, PAIRS
from tevatron_distill.layouts import PointLayout
from tevatron_distill.prompts.text import IDEOGRAPHS, MARKS, WHOLE, cut_words
from tevatron_distill.schema import InputError
from tevatron_distill.students import LoadedStudent
from tevatron_distill.students.cross_encoder import JoinedRows, PairRows
from tevatron_distill.students.special_tokens import BARE, put_special_tokens, read_special_tokens, tokens_around
from tevatron_distill.students.yes_prompts import LineRows, PromptRows, student_prompt, words_around

QUERY = "\x00query\x00"
"""Stands for the query while the words around it are made; no text has it."""


class RowText(NamedTuple):
    """The text of a row: ``opening before query between document behind closing``.

    Attributes:
        opening, closing: special tokens, which the tokenizer adds no more.
        before, between, behind: the words around query and document.
        query_stripped: white space behind the query is dropped.
        max_words: white space in the document is collapsed and so many words are kept; None leaves it as it is.
        document_stripped: white space around the document is dropped.
        stripped: white space around all of it, special tokens apart, is dropped.
    """

    opening: str = ""
    before: str = ""
    between: str = ""
    behind: str = ""
    closing: str = ""
    query_stripped: bool = False
    max_words: int | None = None
    document_stripped: bool = False
    stripped: bool = False

    def fill(self, query: str, document: str) -> str:
        """The text for a pair."""
        query = query.rstrip() if self.query_stripped else query
        document = document.strip() if self.document_stripped else document
        document = document if self.max_words is None else cut_words(document, self.max_words)
        text = f"{self.before}{query}{self.between}{document}{self.behind}"
        return f"{self.opening}{text.strip() if self.stripped else text}{self.closing}"

    def jinja(self) -> str:
        """The chat template: messages with the roles ``query`` and ``document``."""
        query = "query.rstrip()" if self.query_stripped else "query"
        document = "document.strip()" if self.document_stripped else "document"
        if self.max_words is not None:
            document = "cut(document.split() | join(' '))"
        text = " ~ ".join([literal(self.before), query, literal(self.between), document, literal(self.behind)])
        if self.stripped:
            text = f"({text}) | trim"
        lines = [
            f"{{%- set {role} = messages | selectattr('role', 'eq', '{role}') | map(attribute='content') | first -%}}\n"
            for role in ("query", "document")
        ]
        cut = "" if self.max_words is None else cutting(self.max_words)
        return f"{cut}{''.join(lines)}{{{{- {literal(self.opening)} ~ ({text}) ~ {literal(self.closing)} -}}}}"


CUT = """\
{%- macro cut(text) -%}
{%- if not text or text | max(case_sensitive=true) < FIRST -%}
{{- text.split(' ')[:LIMIT] | join(' ') -}}
{%- else -%}
{%- set at = namespace(words=0, kind=' ') -%}
{%- for c in text -%}
{%- set kind = ' ' if c == ' ' else 'han' if HAN else at.kind if at.kind == 'han' and (MARK) else 'word' -%}
{%- if kind != ' ' and (HAN or kind != at.kind) -%}
{%- set at.words = at.words + 1 -%}
{{- ' ' if at.kind == ' ' and 1 < at.words <= LIMIT -}}
{%- endif -%}
{{- c if kind != ' ' and at.words <= LIMIT -}}
{%- set at.kind = kind -%}
{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
"""
"""`cut_words` in Jinja, for text with single spaces; goes through the characters where there are Han or Kana."""


def cutting(max_words: int) -> str:
    """A macro ``cut`` that keeps the first words."""
    values = {
        "FIRST": literal(IDEOGRAPHS[0]),
        "LIMIT": str(max_words),
        "HAN": f"({one_of(IDEOGRAPHS)})",
        "MARK": one_of(MARKS),
    }
    return re.sub("|".join(values), lambda match: values[match[0]], CUT)


def one_of(ranges: str) -> str:
    """The test of Jinja's that a character ``c`` lies in one of these ranges, written ``a-bc-d``."""
    ends = [(ranges[place], ranges[place + 2]) for place in range(0, len(ranges), 3)]
    return " or ".join(f"{literal(first)} <= c <= {literal(last)}" for first, last in ends)


def literal(text: str) -> str:
    """A string of Jinja's."""
    return json.dumps(text, ensure_ascii=False)


def row_text(loaded: LoadedStudent) -> tuple[RowText, Any]:
    """A student's row as a text, special tokens written out, and a tokenizer that adds none.

    Raises:
        InputError: if rows are not one text, or the passage stands before the query.
    """
    layout, tokenizer = loaded.layout, loaded.tokenizer
    if not isinstance(layout, PointLayout) or not tokenizer.is_fast:
        raise InputError(f"{layout.settings.student}: rows must be one text of a query and a passage; these are not")
    bare = copy.deepcopy(tokenizer)
    put_special_tokens(bare, BARE)
    wanted = [row.input_ids for case in CASES for row in layout.rows(case)]
    if max(map(len, wanted)) >= layout.settings.rerank_max_len:
        raise InputError(
            f"rerank_max_len {layout.settings.rerank_max_len} is too short to compare scores on whole rows: those of "
            f"the sample have up to {max(map(len, wanted))} tokens; give the student a greater --rerank_max_len"
        )
    words, (opening, middle, closing) = words_around_both(layout), special_around(layout, tokenizer)
    for gap in ("", " "):  # SentencePiece's kin begin a text with a space, which behind a written token must be written
        text = words._replace(
            opening=opening and opening + gap, between=(middle and middle + gap) + words.between, closing=closing
        )
        if bare([text.fill(query, document) for query, document in PAIRS])["input_ids"] == wanted:
            return text, bare
    raise InputError(
        f"{layout.settings.student} with --prompt {layout.settings.prompt}: this tokenizer makes other tokens of a "
        "whole row than of its parts, which the student was trained on, so that no chat template can stand for its rows"
    )


def special_around(layout: PointLayout, tokenizer: Any) -> tuple[str, str, str]:
    """The special tokens before, in the middle of and behind a row."""
    settings, (single, pair) = layout.settings, read_special_tokens(tokenizer)
    if isinstance(layout.encode, LineRows):
        return tokenizer.bos_token or "", "", ""
    if isinstance(layout.encode, PairRows):
        return tokens_around(pair)
    if isinstance(layout.encode, PromptRows) and student_prompt(settings.prompt).framed:
        return "", "", ""
    opening, _, closing = tokens_around(single)
    return opening, "", closing + tokenizer.eos_token if settings.append_eos_token else closing


def words_around_both(layout: PointLayout) -> RowText:
    """The words around query and document.

    Raises:
        InputError: if the passage stands before the query, for every other program cuts long rows on the right.
    """
    settings = layout.settings
    query, passage = settings.query_prefix, settings.passage_prefix
    if isinstance(layout.encode, JoinedRows):
        asked = affixes(query) if "{}" in query else (f"{query} ", "", False)
        shown = affixes(passage) if "{}" in passage else (f"{passage}  ", "", False)
        return RowText(
            before=asked[0],
            between=f"{asked[1]} {shown[0]}",
            behind=shown[1],
            document_stripped="{}" in passage,
            stripped=True,
        )
    if isinstance(layout.encode, PairRows):
        asked, shown = affixes(query), affixes(passage)
        return RowText(
            before=asked[0],
            between=asked[1] + shown[0],
            behind=shown[1],
            query_stripped=asked[2],
            document_stripped=True,
        )
    prompt = student_prompt(settings.prompt)
    asked, shown = affixes(query.rstrip(" ")), affixes(passage.rstrip(" "))
    if isinstance(layout.encode, LineRows):
        task = prompt.template.rpartition("\n")[2] if settings.task_prompt is None else settings.task_prompt
        head, middle, tail = "", "\n", f"\n{task}"
    else:
        front, tail = words_around(QUERY, prompt, replace(settings, query_prefix=""))
        head, _, middle = front.partition(QUERY)
        if not shows_query_first(layout):
            raise InputError(
                f"--prompt {prompt.name} shows the passage before the query, which a long passage would push out of "
                "the row in programs that cut on the right; choose --format onnx, or train with another --prompt"
            )
    return RowText(
        before=head + asked[0],
        between=asked[1] + middle + shown[0],
        behind=shown[1] + tail,
        query_stripped=asked[2],
        max_words=None if prompt.max_words == WHOLE else prompt.max_words,
        document_stripped=prompt.passage_style == "tevatron",
    )


def shows_query_first(layout: PointLayout) -> bool:
    """Whether the query stands before the passage."""
    if not isinstance(layout.encode, PromptRows):
        return True
    head, _ = words_around(QUERY, student_prompt(layout.settings.prompt), layout.settings)
    return QUERY in head


def affixes(prefix: str) -> tuple[str, str, bool]:
    """What stands before and behind a text by `with_prefix`, and whether white space behind the text is dropped."""
    if "{}" in prefix:
        before, _, behind = prefix.partition("{}")
        return before, behind, False
    return (f"{prefix.lstrip()} ", "", True) if prefix else ("", "", False)

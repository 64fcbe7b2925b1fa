"""The text of a row in Jinja is, character by character, the one that the student reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from tevatron_distill.export.template import RowText, literal

TEXTS = st.text(st.sampled_from("ab \n\t.,'\"{}%\\é・、。一二ア東。京！Ａ"), max_size=40)
ROWS = {
    "words": RowText("<s>", "Q: ", "\n\nPassage: ", "\n\nYes?", "", max_words=3),
    "stripped": RowText("<s>", "query:  ", " document:   ", "", "</s>", stripped=True),
    "templates": RowText("", "A: ", "\nB: ", "!", "", document_stripped=True),
    "prefixes": RowText("", "web: ", " ", "", "", query_stripped=True, max_words=200),
}


def rendered(row, query, document):
    messages = [{"role": "query", "content": query}, {"role": "document", "content": document}]
    [[text], _] = render_jinja_template([messages], chat_template=row.jinja())
    return text


@pytest.mark.parametrize("name", ROWS)
@given(query=TEXTS, document=TEXTS)
def test_jinja_writes_what_the_student_reads(name, query, document):
    assert rendered(ROWS[name], query, document) == ROWS[name].fill(query, document)


def test_a_text_without_spaces_is_cut_at_characters():
    row = RowText("", "", "|", "", "", max_words=3)
    assert rendered(row, "q", "我们喜欢。读书") == "q|我们喜"
    assert rendered(row, "q", "a 我、b c") == "q|a 我、b"


def test_a_text_is_a_literal_whatever_is_in_it():
    text = "{{ x }} {% y %} \" ' \\ \n 東 😀 </s>"
    assert rendered(RowText("", text, text, text, ""), "1", "2") == f"{text}1{text}2{text}"
    assert literal("a\nb") == '"a\\nb"'

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tevatron_distill.prompts import PASSAGE_STYLES, cut_words, render_passage
from tevatron_distill.schema import Passage


@pytest.mark.parametrize("style", PASSAGE_STYLES)
def test_a_passage_without_a_title_is_its_plain_text(style):
    assert render_passage(Passage("1", " some\n text "), style) == "some text"


@given(st.text(alphabet="ab ,.é\t\n", max_size=60), st.integers(0, 12))
def test_cutting_text_with_spaces_is_cutting_at_spaces(text, max_words):
    assert cut_words(text, max_words) == " ".join(text.split()[:max_words])


@given(st.text(max_size=60), st.integers(0, 12))
def test_a_cut_text_is_a_beginning_of_the_text_and_cutting_again_changes_nothing(text, max_words):
    cut = cut_words(text, max_words)
    assert " ".join(text.split()).startswith(cut)
    assert cut_words(cut, max_words) == cut


@pytest.mark.parametrize(
    ("text", "max_words", "expected"),
    [
        ("我们喜欢读书。他也是", 6, "我们喜欢读书。"),
        ("これはペンです", 4, "これはペ"),
        ("BM25算法 works", 2, "BM25算"),
        ("BM25算法 works", 4, "BM25算法 works"),
        ("书" * 300, 100, "书" * 100),
        ("한국어 문장 하나", 2, "한국어 문장"),
    ],
)
def test_text_without_spaces_is_cut_too(text, max_words, expected):
    assert cut_words(text, max_words) == expected

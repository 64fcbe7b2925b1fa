"""How passages are put into prompts: title and text as one string, cut at words, and templates filled in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from tevatron_distill.schema import Passage

# Han, Kana and their extensions: written without spaces, so that each character counts as a word.
IDEOGRAPHS = (
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
# The punctuation that goes with them belongs to the character before it.
MARKS = "\u3001-\u3004\u3008-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
_WORD = re.compile(f"[{IDEOGRAPHS}][{MARKS}]*|[^ {IDEOGRAPHS}]+")

WHOLE = 1 << 20
"""``max_words`` of prompts that were published without a cut: the engine shortens passages until a prompt fits."""


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


def fill(template: str, values: Mapping[str, str]) -> str:
    """A template with its ``{fields}`` filled in; other braces, also those in the values, are text.

    >>> fill("{query} {a} {other}", {"query": "{a}", "a": "one"})
    '{a} one {other}'
    """
    # One pass, so that braces inside a query or a passage are text.
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), template)

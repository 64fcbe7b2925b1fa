"""The special tokens that a tokenizer puts around texts: read, replaced, and put back in exported folders.

A folder that other programs render by a chat template has them in the template, and its tokenizer adds none, for one
program adds special tokens to what it rendered (vLLM) and another does not (sentence-transformers). What the student
was trained with stands in ``reranker_config.json``, so that its rows are the same here.
"""

from __future__ import annotations

from typing import Any

from tokenizers.processors import TemplateProcessing

SpecialTokens = tuple[str, str]
"""What is put around one text and around two, as `tokenizers` writes it: ``<s>:0 $A:0`` and ``<s>:0 $A:0 $B:0``."""

BARE: SpecialTokens = ("$A:0", "$A:0 $B:0")
"""No special tokens."""


def read_special_tokens(tokenizer: Any) -> SpecialTokens:
    """What a fast tokenizer puts around texts."""
    return _around(tokenizer, "a"), _around(tokenizer, "a", "b")


def _around(tokenizer: Any, *texts: str) -> str:
    encoding = tokenizer(*texts, return_token_type_ids=True).encodings[0]
    parts = []
    for token, sequence, kind in zip(encoding.tokens, encoding.sequence_ids, encoding.type_ids, strict=True):
        part = f"{token}:{kind}" if sequence is None else f"{'$A' if sequence == 0 else '$B'}:{kind}"
        if part not in parts or sequence is None:
            parts.append(part)
    return " ".join(parts)


def put_special_tokens(tokenizer: Any, special: SpecialTokens) -> None:
    """Make a fast tokenizer put these around texts."""
    single, pair = special
    names = {part.rpartition(":")[0] for part in f"{single} {pair}".split()} - {"$A", "$B"}
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=single,
        pair=pair,
        special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in sorted(names)],
    )


def tokens_around(template: str) -> tuple[str, str, str]:
    """The special tokens before the first text, between two, and behind the last, each as one text.

    >>> tokens_around("<s>:0 $A:0 </s>:0 </s>:0 $B:0 </s>:0")
    ('<s>', '</s></s>', '</s>')
    >>> tokens_around("$A:0")
    ('', '', '')
    """
    names = [part.rpartition(":")[0] for part in template.split()]
    first, last = names.index("$A"), names.index("$B") if "$B" in names else names.index("$A")
    return "".join(names[:first]), "".join(names[first + 1 : last]), "".join(names[last + 1 :])

"""What a run will ask, before anything is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tevatron_distill.schema import Candidates
from tevatron_distill.teachers.oracle import Oracle

CHARACTERS_PER_TOKEN = 4.0
"""Of English prose under today's tokenizers, roughly; other languages take more tokens."""


def plan_questions(
    oracle: Oracle,
    candidates: Iterable[Candidates],
    bounds: Callable[[int], tuple[int, int]],
    *,
    question_size: int,
    sort_depth: int | None = None,
    num_shuffles: int = 0,
    same_when_shuffled: bool = False,
    thinking_tokens: int = 0,
) -> dict[str, float]:
    """Count the questions and prompts of a run, and estimate their tokens.

    Args:
        oracle: puts questions into prompts.
        candidates: the queries.
        bounds: the least and the most questions for a number of passages.
        question_size: the most passages in a question.
        sort_depth: only so many of the first candidates are sorted; None for all.
        num_shuffles: orders that each query is sorted from; 0 for one.
        same_when_shuffled: whether every order asks the same questions.
        thinking_tokens: that an answer may have before its text.

    Returns:
        ``queries``; ``questions`` and ``prompts``, or the least and the most of them where the answers decide;
        ``input_tokens`` and ``output_tokens``, of the most, by characters.
    """
    orders = 1 if same_when_shuffled else max(1, num_shuffles)
    queries = least = most = fewest = prompts = 0
    characters = written = 0.0
    for entry in candidates:
        queries += 1
        passages = entry.passages[: sort_depth or len(entry.passages)]
        low, high = bounds(len(passages))
        size = min(question_size, len(passages))
        if not high:
            continue
        shown = len(oracle.shown(tuple(range(size))))
        least, most = least + low, most + high * orders
        fewest, prompts = fewest + low * shown, prompts + high * orders * shown
        wording = oracle.prompt.render(entry.query, ("",) * size, is_encoder_decoder=False)
        texts = [len(oracle.prompt.passage_text(passage)) for passage in passages]
        length = len(wording.text()) + len(wording.prefix) + size * sum(texts) / len(texts)
        length += len(oracle.prompt.target(entry.query))
        characters += high * orders * shown * length
        written += high * orders * shown * _answer_tokens(oracle, size, thinking_tokens)
    return {
        "queries": queries,
        **_exact_or_bounds("questions", least, most),
        **_exact_or_bounds("prompts", fewest, prompts),
        "input_tokens": round(characters / CHARACTERS_PER_TOKEN),
        "output_tokens": round(written),
    }


def _answer_tokens(oracle: Oracle, size: int, thinking_tokens: int) -> float:
    if oracle.prompt.answer != "text":
        return 1.0
    return len(oracle.prompt.longest_answer(size)) / CHARACTERS_PER_TOKEN * 2 + thinking_tokens  # brackets are short


def _exact_or_bounds(name: str, least: int, most: int) -> dict[str, float]:
    return {name: most} if least == most else {f"{name}_at_least": least, f"{name}_at_most": most}

"""A student as a reward of TRL's trainers, LLM-Blender's other use: ``GRPOTrainer(reward_funcs=RerankerReward(…))``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from tevatron_distill.schema import Candidates, InputError, Passage

if TYPE_CHECKING:
    from tevatron_distill.reranker import Reranker
    from tevatron_distill.reranker.cascade import Cascade

Turns: TypeAlias = str | Sequence[Mapping[str, Any]]
"""A text, or a conversation: ``[{"role": "user", "content": "…"}, …]``."""


class RerankerReward:
    """The reward of a completion is the student's score of it, as a passage for its prompt.

    The completions of one prompt are candidates of one list, so that students that compare candidates (PairRM) rank
    each among the others that this process has. A completion without text gets the lowest score of its list.

    Args:
        reranker: any student.
    """

    def __init__(self, reranker: Reranker | Cascade) -> None:
        self._reranker = reranker
        self.__name__ = "reranker_reward"  # what TRL logs it under

    def __call__(self, prompts: Sequence[Turns], completions: Sequence[Turns], **_: Any) -> list[float]:
        """The rewards, aligned with the completions.

        Args:
            prompts: texts, or conversations, of which the last turn of the user is the query.
            completions: texts, or conversations of the assistant's turns.

        Raises:
            InputError: if a prompt has no text of a user.
        """
        queries, texts = [text_of(prompt, "user") for prompt in prompts], [text_of(one) for one in completions]
        places: dict[str, list[int]] = {}
        for place, (query, _text) in enumerate(zip(queries, texts, strict=True)):
            places.setdefault(query, []).append(place)
        full = {query: [place for place in own if texts[place].strip()] for query, own in places.items()}
        lists = [
            Candidates(query, query, tuple(Passage(str(place), texts[place]) for place in own), (0.0,) * len(own))
            for query, own in full.items()
        ]
        rewards = [0.0] * len(texts)
        for query, scores in zip(full, self._reranker.score_candidates(lists), strict=True):
            found = dict(zip(full[query], scores, strict=True))
            for place in places[query]:
                rewards[place] = found.get(place, min(scores, default=0.0))
        return rewards


def text_of(turns: Turns, role: str | None = None) -> str:
    """The text of a turn's content, which may be in parts.

    Args:
        turns: a text, or a conversation.
        role: whose last turn is taken; None for all turns, a line each.

    Raises:
        InputError: if there is no turn of ``role``.
    """
    if isinstance(turns, str):
        return turns
    contents = [turn.get("content") or "" for turn in turns if role in (None, turn.get("role"))]
    if not contents and role is not None:
        raise InputError(f"a prompt must hold a turn of the {role}; got {turns!r}")
    texts = [
        content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)
        for content in contents
    ]
    return texts[-1] if role is not None else "\n".join(texts)

"""Answers from a log instead of a model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from tevatron_distill.engines.logs import Question, read_logs
from tevatron_distill.engines.request import Answer, Request, check_kind
from tevatron_distill.formats.jsonl import expand_pattern
from tevatron_distill.formats.output import hash_path
from tevatron_distill.prompts import Prompt
from tevatron_distill.schema import Candidates, InputError

REQUESTS_PER_BATCH = 1024


class RecordedEngine:
    """Gives the answers that a model gave before, so that teaching can be tested, audited and done again without it.

    Our own logs (of ``--record_path``) know which passages a question showed, and are read by that. Others know only
    the query, RankLLM's by the words of the prompt: the first question about it gets its first answer, and so on,
    which is right for a teacher that asks as theirs did (windows from the back). Query texts are compared without
    case, spaces and what cleaning may have changed.

    Args:
        recorded_path: a log, or several by a pattern with ``*``, read in the order of their names.

    Raises:
        InputError: if a file cannot be read as one of these logs.
    """

    def __init__(self, recorded_path: str) -> None:
        self.model_name = recorded_path
        self.num_tokens = 0
        self.num_shortened = 0
        self._paths = expand_pattern(recorded_path)
        self._log = read_logs(self._paths)
        if not self._log.kinds:
            raise InputError(f"{recorded_path}: a log must hold answers; found none")
        self.answers = frozenset(self._log.kinds)
        self.may_miss = any(
            kind == "choice" and isinstance(answer, str) for (_, kind, *_), answer in self._log.questions.items()
        )
        self._num_asked: dict[str, int] = {}
        self._numbers: dict[Request, int] = {}
        self._asker_of: dict[str, str] = {}

    @cached_property
    def identity(self) -> str:
        """The content of the logs."""
        return f"recorded {' '.join(hash_path(path) for path in self._paths)}"

    def prepare(self, candidates: Iterable[Candidates], prompt: Prompt, num_passages: int) -> None:
        """Refuse queries that the log does not know, all at once.

        Raises:
            InputError: if there are some, or the log holds no answers of this kind, or it cannot tell two queries
                apart.
        """
        check_kind(f"recorded ({self.model_name})", self.answers, prompt)
        known = {query_id for _, _, query_id, _ in self._log.questions} | set(self._log.by_id)
        unknown: list[Candidates] = []
        num_unknown = num_queries = 0
        for entry in candidates:
            num_queries += 1
            text = None if entry.query_id in known else self._log.words(entry.query)
            if entry.query_id not in known and text is None:
                unknown, num_unknown = unknown or [entry], num_unknown + 1
            elif text is not None and self._asker_of.setdefault(text, entry.query_id) != entry.query_id:
                raise InputError(
                    f'{self.model_name}: query_ids "{self._asker_of[text]}" and "{entry.query_id}" ask the same '
                    "words, and the log knows queries by their words alone; drop one of the queries"
                )
        if unknown:
            raise InputError(
                f"{self.model_name}: no answer for {num_unknown} of {num_queries} queries, first for query_id "
                f'"{unknown[0].query_id}" ({unknown[0].query[:60]!r}); the log must be of these queries'
            )

    def key_text(self, request: Request) -> str:
        """The query, the passages shown, and how many questions about the query came before."""
        return json.dumps([*_question(request), self._number(request)])

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        """The requests as they come."""
        self._numbers = {request: self._number(request) for request in requests}
        indices = list(range(len(requests)))
        return [indices[start : start + REQUESTS_PER_BATCH] for start in range(0, len(indices), REQUESTS_PER_BATCH)]

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """What the log holds for each request.

        Raises:
            InputError: if it holds nothing, or no more answers for a query, or one of another kind.
        """
        return [self._answer(request) for request in requests]

    def report(self) -> Mapping[str, float]:
        """Nothing."""
        return {}

    def _answer(self, request: Request) -> Answer:
        check_kind(f"recorded ({self.model_name})", self.answers, request.prompt)
        entry = request.candidates
        question = _question(request)
        if question in self._log.questions:
            return self._log.questions[question]
        responses = self._log.responses(entry.query_id, entry.query)
        number = self._number(request)
        if responses is None or number >= len(responses):
            held = "no answer to this question" if responses is None else f"only {len(responses)} answers"
            raise InputError(
                f'{self.model_name}: {held} for query_id "{entry.query_id}" ({entry.query[:60]!r}); ask as it was '
                "recorded (prompt, depth, sort, windows, passes)"
            )
        return responses[number]

    def _number(self, request: Request) -> int:
        """How many questions about the query came before; numbered when first seen, cached answers included."""
        if request not in self._numbers:
            query_id = request.candidates.query_id
            self._numbers[request] = self._num_asked.get(query_id, 0)
            self._num_asked[query_id] = self._numbers[request] + 1
        return self._numbers[request]


def _question(request: Request) -> Question:
    candidates = request.candidates
    docids = tuple(candidates.passages[position].docid for position in request.positions)
    return request.prompt.name, request.prompt.answer, candidates.query_id, docids

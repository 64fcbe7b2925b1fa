"""The teacher that asks an engine: a sort and an oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from tevatron_distill.engines import AnswerCache, Engine, Request
from tevatron_distill.schema import Candidates, Group
from tevatron_distill.sorting import Answer, Question, Sort, Sorted, run_in_lockstep
from tevatron_distill.teachers.oracle import Book, Oracle


class AskingTeacher:
    """Sorts the candidates of many queries together by asking an engine.

    Args:
        oracle: puts questions into prompts and reads the answers.
        engine: answers.
        sort: makes the sort for a number of passages.
        sort_name: for the record.
        cache: keeps the engine's answers.
        question_size: the most passages that the sort asks about at once.
        sort_depth: only so many of the first candidates are sorted; those behind keep their places and are tied.
            None for all.
    """

    def __init__(
        self,
        oracle: Oracle,
        engine: Engine,
        sort: Callable[[int], Sort],
        sort_name: str,
        cache: AnswerCache,
        *,
        question_size: int = 2,
        sort_depth: int | None = None,
    ) -> None:
        self._oracle = oracle
        self._engine = engine
        self._sort = sort
        self._cache = cache
        self._question_size = question_size
        self._sort_depth = sort_depth
        self._counts = oracle.prompt.answer == "text" or (oracle.prompt.answer == "choice" and engine.may_miss)
        self._about = {
            "name": oracle.name,
            "sort": sort_name,
            "model": engine.model_name,
            "prompt": oracle.prompt.name,
        }

    def prepare(self, candidates: Iterable[Candidates]) -> None:
        """Let the engine see all queries that there is something to ask about, before the first question."""
        size = self._question_size
        if size > 2:
            size = min(size, max((self._depth(entry) for entry in self._asked(candidates)), default=2))
        self._engine.prepare(self._asked(candidates), self._oracle.prompt, size)

    def _asked(self, candidates: Iterable[Candidates]) -> Iterator[Candidates]:
        return (entry for entry in candidates if self._depth(entry) >= min(2, self._question_size))

    def _depth(self, entry: Candidates) -> int:
        return min(len(entry.passages), self._sort_depth or len(entry.passages))

    def teach(self, block: Sequence[Candidates]) -> Iterator[tuple[int, Group]]:
        """Sort the candidates of a block of queries together; yield each query's index and group as it finishes."""
        books = [Book(entry, self._oracle.prompt) for entry in block]

        def ask(asked: list[tuple[int, Question]]) -> list[Answer]:
            return self._ask([(books[index], question) for index, question in asked])

        for index, result in run_in_lockstep([self._sort(self._depth(entry)) for entry in block], ask):
            yield index, self._group(books[index], result)

    def _ask(self, asked: list[tuple[Book, Question]]) -> list[Answer]:
        new: dict[tuple[int, Question], tuple[Book, Question]] = {}
        for book, question in asked:
            key = self._oracle.key(question)
            if key not in book.known:
                new.setdefault((id(book), key), (book, question))
        requests = [
            Request(self._oracle.prompt, book.candidates, order, tuple(book.texts[position] for position in order))
            for book, question in new.values()
            for order in self._oracle.shown(question)
        ]
        answers = iter(self._cache.ask(self._engine, requests))
        for (_, key), (book, question) in new.items():
            book.known[key] = self._oracle.read(book, question, [next(answers) for _ in self._oracle.shown(question)])
        scores = [book.known[self._oracle.key(question)] for book, question in asked]
        return [
            tuple(found[position] for position in question) for (_, question), found in zip(asked, scores, strict=True)
        ]

    def _group(self, book: Book, result: Sorted) -> Group:
        passages = book.candidates.passages
        num_ranked = result.num_ranked
        # What a repair appended at the end is not the teacher's word.
        while num_ranked and result.order[num_ranked - 1] in book.unnamed:
            num_ranked -= 1
        if book.num_answers and book.num_silent == book.num_answers:
            num_ranked = 0
        counted = book.num_answers if self._counts else book.num_malformed
        counts = {"answers": book.num_answers, "malformed": book.num_malformed} if counted else {}
        pairs = book.preferences
        return Group(
            query_id=book.candidates.query_id,
            query=book.candidates.query,
            passages=passages,
            permutation=(*result.order, *range(len(result.order), len(passages))),
            num_ranked=num_ranked,
            scores=result.scores if len(result.order) == len(passages) and not book.unnamed else None,
            preferences=tuple((i, j, p) for (i, j), p in sorted(pairs.items()))
            if self._oracle.has_preferences
            else None,
            teacher={**self._about, **counts},
        )

    def report(self) -> Mapping[str, float]:
        """Figures of all that was taught so far.

        Returns:
            what the oracle counts; prompts ``asked`` and ``cached``; ``tokens`` without padding; prompts
            ``shortened``; what the engine counts.
        """
        return {
            **self._oracle.report(),
            "asked": self._cache.num_asked,
            "cached": self._cache.num_cached,
            "tokens": self._engine.num_tokens,
            "shortened": self._engine.num_shortened,
            **self._engine.report(),
        }

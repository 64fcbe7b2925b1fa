"""An engine that answers by a function, and candidates to be sorted."""

from __future__ import annotations

from tevatron_distill.schema import Candidates, Passage


class ScriptedEngine:
    """Answers each request with what a function makes of it."""

    model_name = "scripted"
    identity = "scripted"
    answers = frozenset({"choice", "text", "likelihood"})
    num_tokens = num_shortened = 0
    may_miss = False

    def __init__(self, answer):
        self._answer = answer
        self.asked = []
        self.prepared = None

    def prepare(self, candidates, prompt, num_passages):
        self.prepared = num_passages

    def key_text(self, request):
        docids = [request.candidates.passages[position].docid for position in request.positions]
        return f"{request.prompt.name} {request.candidates.query_id} {docids}"

    def batches(self, requests):
        return [list(range(len(requests)))] if requests else []

    def report(self):
        return {}

    def answer(self, requests):
        self.asked += [request.positions for request in requests]
        return [self._answer(request) for request in requests]


def candidates_of(num_passages, query_id="q1"):
    """Passages ``d0``, ``d1``, … whose text is their number."""
    passages = tuple(Passage(f"d{place}", f"{place}") for place in range(num_passages))
    return Candidates(
        query_id, "which is the largest?", passages, tuple(float(-place) for place in range(num_passages))
    )


def worth_of(request):
    """The numbers that the passages shown hold, in the order shown."""
    return [float(request.candidates.passages[position].text) for position in request.positions]


def taught(teacher, *block):
    """The groups of a block, in its order."""
    teacher.prepare(block)
    return [group for _, group in sorted(teacher.teach(block), key=lambda pair: pair[0])]

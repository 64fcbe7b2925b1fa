"""Any student is a teacher too, and so is any published cross-encoder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tevatron_distill.permutation import from_scores
from tevatron_distill.reranker import Reranker
from tevatron_distill.schema import Candidates, Group


class StudentTeacher:
    """Orders candidates by a student's scores, which are kept; equal scores keep the first-stage order.

    Args:
        reranker: scores lists.
        model_name: for the record.
    """

    def __init__(self, reranker: Reranker, model_name: str) -> None:
        self._reranker = reranker
        self._model_name = model_name

    def prepare(self, candidates: Iterable[Candidates]) -> None:
        """Nothing to plan."""

    def teach(self, block: Sequence[Candidates]) -> Iterator[tuple[int, Group]]:
        """Yield each query's index and group."""
        about = {"name": "student", "student": self._reranker.layout.settings.student, "model": self._model_name}
        scored = self._reranker.score_candidates(block)
        for index, (entry, scores) in enumerate(zip(block, scored, strict=True)):
            yield (
                index,
                Group(
                    query_id=entry.query_id,
                    query=entry.query,
                    passages=entry.passages,
                    permutation=from_scores(scores),
                    num_ranked=len(scores),
                    scores=tuple(scores),
                    teacher=about,
                ),
            )

    def report(self) -> Mapping[str, float]:
        """Share of ``real`` tokens among those that went through the model, padding included."""
        return {"real_token_share": self._reranker.batcher.count.real_share}


def load_student_teacher(
    model_name_or_path: str, dtype: str = "auto", batch_tokens: int | None = None, trust_remote_code: bool = False
) -> StudentTeacher:
    """A student's folder, or a published cross-encoder.

    Args:
        model_name_or_path: folder or name on the hub.
        dtype: ``auto`` is float32 on a CPU and the checkpoint's elsewhere.
        batch_tokens: tokens of a batch, padding included; None is `auto_batch_tokens`.
        trust_remote_code: run code that comes with the model.

    Raises:
        InputError: if it cannot be loaded, or its score would be random.
    """
    reranker = Reranker.from_pretrained(
        model_name_or_path,
        dtype=None if dtype == "auto" else dtype,
        batch_tokens=batch_tokens,
        trust_remote_code=trust_remote_code,
    )
    return StudentTeacher(reranker, model_name_or_path)

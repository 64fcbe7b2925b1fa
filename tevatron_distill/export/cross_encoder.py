"""Any student as a CrossEncoder of sentence-transformers, T5 included, without trust_remote_code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from tevatron_distill.extras import load_package
from tevatron_distill.layouts import PointLayout
from tevatron_distill.schema import InputError, Passage
from tevatron_distill.students import LoadOptions, load_student
from tevatron_distill.students.loading import find_file


def load_cross_encoder(path: str | Path, *, dtype: str = "float32", **keywords: Any) -> Any:
    """A student as a ``CrossEncoder``, whose ``predict`` and ``rank`` give the student's own scores.

    Folders of ``driver.export`` that sentence-transformers knows are opened by it. Every other one that scores one
    passage at a time, as training leaves it or T5, is opened by this package inside of its class: rows, their lengths
    and scores are the student's. A pair's second text is a passage without a title.

    Args:
        path: a student's folder, or its name on the hub.
        dtype: as in `LoadOptions`.
        keywords: for ``CrossEncoder``: ``device``, …

    Raises:
        InputError: if sentence-transformers is missing, or the student does not score passages one at a time.

    Source:
        sentence-transformers opens a sequence-to-sequence model only with ``trust_remote_code``, even from an
        installed package.
    """
    library = load_package("sentence_transformers", "load_cross_encoder")
    if find_file(str(path), "modules.json") is not None:
        return library.CrossEncoder(str(path), model_kwargs={"dtype": dtype}, **keywords)
    loaded = load_student(str(path), options=LoadOptions(dtype=dtype))
    if not isinstance(loaded.layout, PointLayout):
        raise InputError(
            f"{path}: a CrossEncoder scores one passage at a time, and {loaded.layout.settings.student} does not; rank "
            "with tevatron_distill.Reranker"
        )
    return library.CrossEncoder(
        modules=[student_module(loaded.model, loaded.layout)], activation_fn=nn.Identity(), **keywords
    )


def student_module(model: Any, layout: PointLayout) -> Any:
    """A student as the one module of a CrossEncoder."""
    base: Any = load_package("sentence_transformers.base.modules", "load_cross_encoder").InputModule

    class StudentModule(base):
        """Rows and scores of a student.

        ``scores`` of the features are ``[R, 1]``.
        """

        def __init__(self) -> None:
            super().__init__()
            self.model, self.tokenizer = model, layout.tokenizer

        def preprocess(
            self, inputs: list[tuple[str, str]], prompt: str | None = None, **keywords: Any
        ) -> dict[str, Any]:
            """The model's inputs for pairs; `prompt` is refused, for the student has its own.

            Raises:
                InputError: if one is given.
            """
            if prompt:
                raise InputError(f"the student has its own prompt; got {prompt!r}")
            rows = [row for query, text in inputs for row in layout.encode(query, [Passage("", text)])]
            return layout.pad(rows)

        def forward(self, features: dict[str, Any], **keywords: Any) -> dict[str, Any]:
            """The student's scores."""
            outputs = self.model(**{name: features[name] for name in layout.model_inputs})
            return {**features, "scores": layout.row_scores(outputs)[:, None]}

        def save(self, output_path: str, *arguments: Any, **keywords: Any) -> None:
            """A student's folder."""
            self.model.save_pretrained(output_path)
            self.tokenizer.save_pretrained(output_path)
            layout.settings.save(output_path)

    return StudentModule()

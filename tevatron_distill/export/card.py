"""The model card of an exported folder: what is on record of the student, and nothing else."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from tevatron_distill.export.facts import (
    cell,
    code,
    facts_of,
    licence_of,
    limits_of,
    places_of,
    speed_of,
    summary_of,
    teachers_of,
    training_record,
)
from tevatron_distill.export.results import Measured, Results
from tevatron_distill.export.snippets import ENCODERS, PAIRS, Snippet, snippets
from tevatron_distill.formats.yaml_text import YAML_ERRORS
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.schema import InputError
from tevatron_distill.students.loading import ADAPTER_FILE

logger = logging.getLogger(__name__)

CARD_FILE = "README.md"
MARK = "<!-- From here on written by tevatron_distill; what stands above is kept when the model is exported again. -->"
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
UNFILLED = re.compile(
    r"(- \*\*.*)?\[More Information Needed\]( <!--.*-->)?|# Model Card for .*|### Framework versions|- PEFT .*|"
    r"Users \(both direct .*|"
)
"""Lines that peft writes beside those of huggingface_hub's template, and empty ones."""
TRAINERS = "according to the information the Trainer had access to"


@dataclass(frozen=True)
class CardOptions:
    """What a card says that no record holds.

    Attributes:
        name: where readers find the model: a name on the hub, or a path; None for the folder that is written.
        results: measured results, of any models.
        license: the model's licence, as the Hub spells it; None where nobody said.
    """

    name: str | None = None
    results: tuple[Results, ...] = ()
    license: str | None = None


def write_card(
    folder: Path,
    source: str,
    format: str,
    *,
    name: str,
    options: CardOptions | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write ``README.md`` of an exported folder.

    A card that somebody has written into the source's folder stays: its text above ours, its metadata before ours. A
    card of ours is written anew below the line that says so.

    Args:
        folder: the exported folder, whole but for the card.
        source: what was exported: a student's folder, a checkpoint, or a name on the hub.
        format: key of ``EXPORTS``; ``plain`` for a checkpoint as training leaves a student.
        name: where the folder will lie, if ``options`` does not say it.
        options: what no record holds.
        notes: what the export found to say, in sentences.

    Raises:
        InputError: if the metadata of the source's own card cannot be read.
    """
    options = options or CardOptions()
    name, license = options.name or name, options.license
    results = [one.of_models([source, folder]) for one in options.results]
    record = training_record(source)
    settings = RerankerSettings.read(folder) or RerankerSettings.read(source) or RerankerSettings()
    found = snippets(folder, format, name, on_hub=options.name is not None)
    cards = (own_card(place / CARD_FILE) for place in places_of(source))
    old = next((card for card in cards if card is not None), None)
    data = card_data(folder, format, name, record, settings, results, license, found)
    body = render(
        title=Path(name).name,
        summary=summary_of(folder, format, record, settings),
        results=results,
        speed=[line for one in results for run in one.own for line in speed_of(run, one)],
        snippets=found,
        pairs=PAIRS,
        no_snippet="Its rows are made by the student's own code, from the folder that was exported, so that there is "
        "nothing to paste.",
        facts=facts_of(record, settings),
        teachers=teachers_of(record),
        inputs=[(Path(path).name, hash) for path, hash in (record.get("inputs") or {}).items()],
        limits=limits_of(settings, results, notes),
        licence=licence_of(license),
    )
    if old is not None:
        data = merged(old, data)
        body = f"{old.text.partition(MARK)[0].strip()}\n\n{MARK}\n\n{body}".lstrip()
    else:
        body = f"{MARK}\n\n{body}"
    ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}").save(folder / CARD_FILE)


def own_card(path: Path) -> ModelCard | None:
    """The card in the source's folder that somebody has written, or ours; None for none, or one that a program made.

    Raises:
        InputError: if its metadata cannot be read.
    """
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: a card must be UTF-8 text; got {error}; mend it or remove the card") from error
    text = text if re.match(r"\s*---\s*\n", text) else f"---\n{{}}\n---\n{text}"
    try:
        card = ModelCard(text, ignore_metadata_errors=True)
    except YAML_ERRORS as error:
        said = " ".join(str(error).split())
        raise InputError(f"{path}: a card's metadata must be YAML; got {said}; mend it or remove the card") from error
    if is_machine_made(card.text):
        logger.info("%s was made by a program, and is replaced", path)
        return None
    return card


def is_machine_made(text: str) -> bool:
    """Whether a card is peft's template, of which nobody has filled in a line, or the one of transformers' Trainer."""
    known = {line.strip() for line in Path(ModelCard.default_template_path).read_text(encoding="utf-8").splitlines()}
    lines = {line.strip() for line in text.splitlines()}
    return TRAINERS in text or all(UNFILLED.fullmatch(line) for line in lines - known)


def merged(old: ModelCard, new: ModelCardData) -> ModelCardData:
    """Metadata of two cards: what somebody has written goes before ours, ours before what we wrote earlier."""
    before, after = old.data.to_dict(), new.to_dict()
    both = {**before, **after} if MARK in old.text else {**after, **before}
    tags = [*(before.get("tags") or []), *(after.get("tags") or [])]
    return ModelCardData(**{**both, "tags": list(dict.fromkeys(tags))}, ignore_metadata_errors=True)


def card_data(
    folder: Path,
    format: str,
    name: str,
    record: Mapping[str, Any],
    settings: RerankerSettings,
    results: Sequence[Results],
    license: str | None,
    found: Sequence[Snippet],
) -> ModelCardData:
    """The metadata by which the Hub finds, shows and compares a model; arguments as of `write_card`."""
    arguments, report = record.get("arguments") or {}, record.get("report") or {}
    libraries = {one.library for one in found}
    crosses = "LangChain" in libraries
    sentence = crosses or (settings.student in ENCODERS and "sentence-transformers" in libraries)
    tags = ["sentence-transformers"] if sentence else []
    tags += ["cross-encoder"] if crosses else []
    tags += ["multi-vector", "late-interaction"] if sentence and settings.student == "colbert" else []
    tags += ["reranker", "distillation", "tevatron_distill", settings.student.replace("_", "-")]
    tags += ["lora"] if (folder / ADAPTER_FILE).is_file() else []
    tags += ["onnx"] if format == "onnx" else []
    library = "peft" if (folder / ADAPTER_FILE).is_file() else "sentence-transformers" if sentence else None
    if library is None and any(one.startswith("transformers") for one in libraries):
        library = "transformers"
    figures = eval_results(results)
    base, dataset = arguments.get("model_name_or_path"), arguments.get("dataset_name")
    return ModelCardData(
        license=license,
        library_name=library,
        pipeline_tag="text-ranking",
        tags=tags,
        base_model=base if base and report.get("base_revision") and HUB_NAME.fullmatch(base) else None,
        datasets=[dataset] if dataset and "/" in dataset and HUB_NAME.fullmatch(dataset) else None,
        model_name=Path(name).name if figures else None,
        eval_results=figures or None,
    )


def eval_results(results: Sequence[Results]) -> list[EvalResult]:
    """The model's own figures, of runs into which nothing was mixed, for the ``model-index``."""
    found = []
    for one in results:
        for run in one.own:
            if run.is_mixed:
                continue
            for measure, mean in run.means.items():
                found.append(
                    EvalResult(
                        task_type="text-ranking",
                        task_name="Reranking",
                        dataset_type=re.sub(r"[^\w.-]+", "-", one.dataset),
                        dataset_name=one.dataset,
                        metric_type=measure.lower(),
                        metric_name=measure,
                        metric_value=round(mean, 4),
                    )
                )
    return found


def render(**values: Any) -> str:
    """The card's text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tevatron_distill.export"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": cell, "code": code, "named": named, "value": value_of, "milliseconds": milliseconds}
    text = environment.get_template("card.md").render(**values)
    return re.sub(r"\n{3,}", "\n\n", text)


def named(run: Measured) -> str:
    """A run's name, and what was done to its scores."""
    text = f"**{cell(run.name)}** (this model)" if run.is_own else cell(run.name)
    return f"{text}, mixed with the first stage" if run.is_mixed else text


def value_of(run: Measured, measure: str) -> str:
    """A mean with its interval."""
    if measure not in run.means:
        return "-"
    interval = run.intervals.get(measure)
    ends = "" if interval is None else f" [{interval[0]:.4f}, {interval[1]:.4f}]"
    return f"{run.means[measure]:.4f}{ends}"


def milliseconds(run: Measured) -> str:
    """How long a query took; a dash where nobody knows."""
    return "-" if run.seconds is None else f"{1000 * run.seconds:.3g}"

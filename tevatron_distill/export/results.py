"""Measured results that a model card shows, and which of the measured runs are the model's own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tevatron_distill.formats.jsonl import finite, mapping, read_json
from tevatron_distill.formats.output import config_path, hash_path, read_record
from tevatron_distill.report.systems import names_of, seconds_per_query
from tevatron_distill.schema import InputError

TEST = ("difference", "low", "high", "p")
WEIGHTS = ("*.safetensors", "*.bin", "*.pt")


@dataclass(frozen=True)
class Measured:
    """One run.

    Attributes:
        name: as it is shown.
        means: ``{measure: mean}``, without those that are not defined.
        intervals: ``{measure: (low, high)}``, 95 % bootstrap intervals.
        against_first: ``{measure: {difference, low, high, p}}``, of the paired test; empty where there is none.
        record: of the driver that made the run.
        is_own: the model that the card is about made it.
    """

    name: str
    means: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    against_first: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    is_own: bool = False

    @property
    def seconds(self) -> float | None:
        """A query took so long, by the record."""
        return seconds_per_query(mapping(self.record.get("report")))

    @property
    def is_mixed(self) -> bool:
        """The first stage's scores were mixed in, so that the figures are not of the model alone."""
        return bool(mapping(self.record.get("arguments")).get("first_stage_weight"))


@dataclass(frozen=True)
class Results:
    """What one file says.

    Attributes:
        dataset: name of the judgements.
        hash: their SHA-256; empty where it is not recorded.
        measures: in the file's order.
        runs: all that were measured, the first one first.
    """

    dataset: str
    hash: str
    measures: tuple[str, ...]
    runs: tuple[Measured, ...]

    @property
    def own(self) -> list[Measured]:
        """The model's runs."""
        return [run for run in self.runs if run.is_own]

    def of_models(self, models: Sequence[str | Path]) -> Results:
        """The same with the runs marked that one of these folders or names, of the same model, has made."""
        hashes = {hash for model in models for hash in hashes_of(model)}
        runs = [replace(run, is_own=is_own(run.record, hashes, models)) for run in self.runs]
        return replace(self, runs=tuple(runs))


def read_results(path: str) -> Results:
    """Read what ``driver.evaluate --output_path`` or ``driver.report`` has written.

    Args:
        path: the JSON of evaluate; or the page of report, whose figures stand in the ``run_config.json`` beside it.

    Raises:
        InputError: if the file is neither.
    """
    file = Path(path)
    record = read_record(config_path(file))
    arguments = mapping(record.get("arguments"))
    content = mapping(mapping(record.get("report")).get("results") if file.suffix == ".html" else read_json(file))
    rows = with_means(content) or with_means(mapping(content.get("selection")))
    if not rows:
        raise InputError(
            f"{path}: --results_path takes what driver.evaluate --output_path writes, or driver.report's page with the "
            "run_config.json beside it; found no means of runs there"
        )
    judgements = str(arguments.get("qrels_path") or arguments.get("metrics_path") or path)
    given = arguments.get("run_name")
    names = names_of(list(rows), given if isinstance(given, list) and len(given) == len(rows) else [])
    runs = [measured(name, row, run_record(run, file)) for name, (run, row) in zip(names, rows.items(), strict=True)]
    measures = dict.fromkeys(measure for run in runs for measure in run.means)
    return Results(
        dataset_name(judgements), str(mapping(record.get("inputs")).get(judgements, "")), tuple(measures), tuple(runs)
    )


def with_means(content: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The runs of a file that have means."""
    return {run: row for run, row in content.items() if isinstance(row, dict) and isinstance(row.get("mean"), dict)}


def measured(name: str, row: Mapping[str, Any], record: Mapping[str, Any]) -> Measured:
    """A run of a file."""
    return Measured(
        name,
        {measure: mean for measure, value in row["mean"].items() if (mean := finite(value)) is not None},
        {measure: ends for measure, pair in mapping(row.get("interval")).items() if (ends := interval_of(pair))},
        {measure: test for measure, test in mapping(row.get("against_first")).items() if is_test(test)},
        record,
    )


def interval_of(pair: object) -> tuple[float, float] | None:
    """Both ends, where they are numbers."""
    low, high = (finite(end) for end in pair) if isinstance(pair, list) and len(pair) == 2 else (None, None)
    return None if low is None or high is None else (low, high)


def is_test(test: object) -> bool:
    """Whether these are the figures of a paired test."""
    return isinstance(test, dict) and all(finite(test.get(key)) is not None for key in TEST)


def run_record(run: str, results: Path) -> dict[str, Any]:
    """The record beside a run, whose path may be seen from the folder of the results, too."""
    return read_record(config_path(Path(run))) or read_record(config_path(results.parent / run))


def hashes_of(model: str | Path) -> list[str]:
    """SHA-256 of the weights in a folder; none where it is a name on the hub."""
    return [hash_path(file) for pattern in WEIGHTS for file in sorted(Path(model).glob(pattern))]


def is_own(record: Mapping[str, Any], hashes: Collection[str], models: Sequence[str | Path]) -> bool:
    """Whether a run was made by a model alone, told by the content of its weights, or by its name on the hub.

    Args:
        record: of ``driver.rerank``.
        hashes: SHA-256 of the model's weights.
        models: its folders or names.
    """
    arguments = mapping(record.get("arguments"))
    used = arguments.get("lora_name_or_path") or arguments.get("model_name_or_path")
    if not used or arguments.get("cascade_name_or_path") or "rerank_output_path" not in arguments:
        return False
    weights = {hash for path, hash in mapping(record.get("inputs")).items() if Path(path).parent == Path(used)}
    return bool(weights & set(hashes)) or (not weights and used in [str(model) for model in models])


def dataset_name(path: str) -> str:
    """What judgements are called: their file, or the collection that it lies in.

    >>> dataset_name("qrels.dl19-passage.txt"), dataset_name("beir/nfcorpus/qrels/test.tsv")
    ('qrels.dl19-passage', 'nfcorpus test')
    """
    file = Path(path)
    [name] = names_of([path], [])
    name = name.removesuffix(".qrels")
    return f"{file.parent.parent.name} {name}" if file.parent.name == "qrels" and file.parent.parent.name else name

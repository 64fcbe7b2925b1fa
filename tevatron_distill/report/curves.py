"""Training curves, from what the Trainer has logged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tevatron_distill.formats.checkpoints import STATE
from tevatron_distill.formats.jsonl import finite, mapping, read_json
from tevatron_distill.schema import InputError

# What a log line says of the machine, or of the whole training: no curve.
LEFT_OUT = ("epoch", "step", "total_flos", "runtime", "per_second", "train_loss", "memory", "num_input_tokens")


@dataclass(frozen=True)
class Curve:
    """One logged value over the steps of one training.

    Attributes:
        training: name of the training.
        key: what is logged, such as ``loss`` or ``eval_nDCG@10``.
        points: ``(step, value)`` by rising step.
    """

    training: str
    key: str
    points: tuple[tuple[float, float], ...]


def read_curves(paths: Sequence[str]) -> list[Curve]:
    """The curves of trainings.

    Args:
        paths: folders that ``driver.train`` has written (the log stands in ``run_config.json``, of a training that
            goes on in its latest checkpoint), or ``trainer_state.json`` files.

    Raises:
        InputError: if there is no log.
    """
    names = [Path(path).name if Path(path).is_dir() else Path(path).resolve().parent.name for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    found = []
    for name, path in zip(names, paths, strict=True):
        found += curves_of_log(name, find_log(Path(path)))
    return found


def find_log(path: Path) -> Sequence[Mapping[str, Any]]:
    """The lines that the Trainer has logged.

    Raises:
        InputError: if there are none.
    """
    for file in log_files(path):
        content = mapping(read_json(file))
        log = content.get("log_history") or mapping(content.get("report")).get("log_history")
        if isinstance(log, list) and log:
            return [line for line in log if isinstance(line, dict)]
    raise InputError(
        f"{path}: a training must have logged something in run_config.json or {STATE}; found neither; give the "
        "--output_dir of driver.train"
    )


def log_files(path: Path) -> list[Path]:
    """Files of a training that may hold its log, best first."""
    if path.is_file():
        return [path]
    checkpoints = [file for file in path.glob(f"checkpoint-*/{STATE}") if _step_of(file) >= 0]
    files = [path / "run_config.json", path / STATE, *sorted(checkpoints, key=_step_of, reverse=True)]
    return [file for file in files if file.is_file()]


def curves_of_log(training: str, log: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """One curve for each value that is logged at steps; values that are no finite numbers are passed over.

    >>> curves_of_log("a", [{"loss": 0.5, "step": 1}, {"loss": "nan", "step": 2}, {"loss": 0.25, "step": 3}])
    [Curve(training='a', key='loss', points=((1.0, 0.5), (3.0, 0.25)))]
    """
    points: dict[str, dict[float, float]] = {}
    for line in log:
        step = finite(line.get("step"))
        if step is None:
            continue
        for key, logged in line.items():
            value = finite(logged)
            if value is not None and not any(word in key for word in LEFT_OUT):
                points.setdefault(key, {})[step] = value  # a resumed training logs a step again
    return [Curve(training, key, tuple(sorted(values.items()))) for key, values in points.items()]


def _step_of(file: Path) -> int:
    number = file.parent.name.removeprefix("checkpoint-")
    return int(number) if number.isdecimal() else -1

"""Rows that come through the ``datasets`` library: by a dataset's name, or from a save_to_disk folder.

The library is imported where it reads, because that takes longer than most of what runs without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tevatron_distill.formats.jsonl import Row
from tevatron_distill.schema import InputError

SAVED_MARKS = ("dataset_dict.json", "dataset_info.json", "state.json")


def is_saved_dataset(path: str | Path) -> bool:
    """Whether ``path`` is a folder that save_to_disk made."""
    return any((Path(path) / mark).is_file() for mark in SAVED_MARKS)


def read_dataset(
    name: str,
    config: str | None = None,
    split: str = "train",
    data_files: str | None = None,
    cache_dir: str | None = None,
) -> Iterator[tuple[str, Row]]:
    """Yield ``("name[split][n]", row)`` of ``datasets.load_dataset(name, config, data_files=…, split=…)``.

    Raises:
        InputError: if the dataset, its config or its split cannot be loaded.
    """
    import datasets

    try:
        rows = datasets.load_dataset(name, config, data_files=data_files, split=split, cache_dir=cache_dir)
    except (OSError, ValueError, datasets.exceptions.DatasetGenerationError) as error:
        raise _not_loaded(name, f"config {config}, split {split}", error) from error
    yield from _placed(f"{name}[{split}]", rows)


def config_names(name: str) -> list[str]:
    """The configs of a dataset, by its name or folder.

    Raises:
        InputError: if there is no such dataset, or it cannot be reached.
    """
    import datasets

    try:
        return list(datasets.get_dataset_config_names(name))
    except (OSError, ValueError) as error:
        raise _not_loaded(name, "its configs", error) from error


def split_names(name: str, config: str | None) -> list[str]:
    """The splits of a dataset's config.

    Raises:
        InputError: if there is no such config, or it cannot be reached.
    """
    import datasets

    try:
        return list(datasets.get_dataset_split_names(name, config))
    except (OSError, ValueError) as error:
        raise _not_loaded(name, f"config {config}", error) from error


def _not_loaded(name: str, what: str, error: Exception) -> InputError:
    if Path(name).exists():
        return InputError(
            f"{name}: must be a folder that datasets.load_dataset loads ({what}); got {type(error).__name__}: {error}"
        )
    return InputError(
        f"{name}: no such file or folder, and no dataset of this name could be loaded ({what}); got "
        f"{type(error).__name__}: {error}; where there is no network, download it elsewhere (hf download --repo-type "
        "dataset NAME --local-dir FOLDER) and name that folder"
    )


def read_saved_dataset(folder: str | Path, split: str = "train") -> Iterator[tuple[str, Row]]:
    """Yield ``("folder[n]", row)`` of a save_to_disk folder; ``split`` is for folders that hold several.

    Raises:
        InputError: if the folder cannot be loaded or lacks the split.
    """
    import datasets

    try:
        rows = datasets.load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: must be a folder made by save_to_disk; got {error}") from error
    if isinstance(rows, datasets.DatasetDict):
        if split not in rows:
            raise InputError(f"{folder}: the split must be one of {', '.join(rows)}; got {split!r}")
        rows = rows[split]
    yield from _placed(str(folder), rows)


def _placed(place: str, rows: Any) -> Iterator[tuple[str, Row]]:
    for number, row in enumerate(rows):
        yield f"{place}[{number}]", row

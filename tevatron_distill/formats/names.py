"""What stands behind the name of a collection: a folder, an id of ir_datasets, or a dataset on the hub.

A name has up to three parts, ``corpus``, ``queries`` and ``qrels``, its roles here. ``NAME:SPLIT`` names a split. The
hub's layouts that are known, by their name and as local folders:

- ``BeIR/nfcorpus`` with configs ``corpus`` and ``queries``, and ``BeIR/nfcorpus-qrels`` with a split a set;
- ``mteb/nfcorpus``, whose config ``default`` has the judgements;
- ``sentence-transformers/NanoBEIR-en`` with configs ``corpus``, ``queries`` and ``qrels`` and a split a collection;
- ``zeta-alpha-ai/NanoNFCorpus`` with the same configs and the one split ``train``;
- ``Tevatron/msmarco-passage-corpus``, and ``Tevatron/msmarco-passage`` for queries.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from tevatron_distill.formats.hub import config_names, is_saved_dataset, read_dataset, read_saved_dataset, split_names
from tevatron_distill.formats.irds import PREFIX, read_irds
from tevatron_distill.formats.jsonl import read_json_rows
from tevatron_distill.formats.parquet import read_parquet
from tevatron_distill.formats.reading import Row
from tevatron_distill.schema import InputError

ROWS = (".jsonl", ".jsonl.gz", ".parquet")
FILES = (*ROWS, ".json", ".json.gz", ".tsv", ".txt")
SAME = {"dev": "validation", "validation": "dev"}
SHARD = re.compile(r"-\d{5}-of-\d{5}$")


class Part(NamedTuple):
    """One role of a name.

    Attributes:
        rows: ``(place, row)`` in the order of the collection; None where ``table`` holds it.
        table: a TSV file.
        whole: a split was asked for that this part does not have; for queries, those that the judgements of this
            split name are meant.
    """

    rows: Iterator[tuple[str, Row]] | None = None
    table: Path | None = None
    whole: bool = False


def parse_name(source: str | Path, split: str | None = None) -> tuple[str, str | None]:
    """Name and split of ``NAME:SPLIT``; a split that is given besides goes first.

    >>> parse_name("BeIR/nfcorpus-qrels:test"), parse_name("irds:beir/nfcorpus/test")
    (('BeIR/nfcorpus-qrels', 'test'), ('irds:beir/nfcorpus/test', None))
    """
    text = str(source)
    name, colon, own = text.rpartition(":")
    if text.startswith(PREFIX) or not colon or "/" in own or os.path.exists(text):
        return text, split
    return name, split or own


def on_disk(sources: Iterable[str | Path | None]) -> list[str]:
    """The files and folders among sources, without splits: what a run's record can hash."""
    names = [parse_name(source)[0] for source in sources if source is not None]
    return [name for name in names if os.path.exists(name)]


def find_part(source: str | Path, role: str, config: str | None = None, split: str | None = None) -> Part:
    """The rows of one role of a name.

    Args:
        source: a folder, ``irds:`` and an id, or a dataset's name, with or without a split.
        role: ``corpus``, ``queries`` or ``qrels``.
        config: config of a dataset; found by the role where it is None.
        split: its split; the only one, or the one that is called like the role, where it is None.

    Raises:
        InputError: if it is not there, has no such part, or has several splits and none is named.
    """
    name, split = parse_name(source, split)
    path = Path(name)
    if name.startswith(PREFIX):
        return Part(read_irds(name, role))
    if path.is_dir():
        return _in_folder(path, role, config, split)
    if name.endswith(FILES):
        raise InputError(f"{path}: no such file")
    return _loaded(name, role, config, split)


def choose_split(place: str | Path, splits: Collection[str], role: str, split: str | None) -> str:
    """The split that is meant; ``dev`` and ``validation`` are the same.

    Raises:
        InputError: if it is not there, or none is named where there are several.
    """
    if split is not None:
        for name in (split, SAME.get(split, split)):
            if name in splits:
                return name
        raise InputError(f"{place}: the split of the {role} must be one of {', '.join(sorted(splits))}; got {split!r}")
    if len(splits) == 1:
        return next(iter(splits))
    default = next((name for name in (role, "train") if name in splits and role != "qrels"), None)
    if default is None:
        raise InputError(
            f"{place}: the {role} have the splits {', '.join(sorted(splits))}; name one behind a colon: "
            f"{place}:{min(splits)}"
        )
    return default


def _in_folder(folder: Path, role: str, config: str | None, split: str | None) -> Part:
    if is_saved_dataset(folder):
        return Part(read_saved_dataset(folder, split or "train"))
    for ending in ROWS:
        whole = folder / f"{role}{ending}"
        if whole.is_file():
            return Part(_read_file(whole), whole=split is not None)
    if config is None:
        files = _files_of(folder / role, FILES)
        if role == "qrels" and folder.name.endswith("-qrels"):
            files = files or _files_of(folder, (".tsv",))
        if files:
            return _in_files(folder, files, role, split)
        beside = folder.with_name(f"{folder.name}-qrels")
        if role == "qrels" and beside.is_dir():
            return _in_folder(beside, role, config, split)
    if not any(path.name.endswith(FILES) for path in folder.rglob("*")):
        member = "qrels/SPLIT.tsv" if role == "qrels" else f"{role}.jsonl"
        raise InputError(f"{folder}: a BEIR folder must hold {member}; it does not")
    return _loaded(str(folder), role, config, split)


def _files_of(folder: Path, endings: tuple[str, ...]) -> dict[str, list[Path]]:
    """The files of a folder by their split: ``test.tsv``, ``NanoMSMARCO-00000-of-00002.parquet``."""
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*")):
        ending = next((ending for ending in endings if path.name.endswith(ending)), None)
        if ending is not None and path.is_file():
            files.setdefault(SHARD.sub("", path.name.removesuffix(ending)), []).append(path)
    return files


def _in_files(folder: Path, files: dict[str, list[Path]], role: str, split: str | None) -> Part:
    whole = role == "queries" and split is not None and len(files) == 1 and not {split, SAME.get(split)} & set(files)
    paths = files[choose_split(folder, files, role, None if whole else split)]
    if paths[0].suffix in (".tsv", ".txt"):
        return Part(table=paths[0], whole=whole)
    return Part(chain.from_iterable(_read_file(path) for path in paths), whole=whole)


def _read_file(path: Path) -> Iterator[tuple[str, Row]]:
    return read_parquet(path) if path.suffix == ".parquet" else read_json_rows(path)


def _loaded(name: str, role: str, config: str | None, split: str | None) -> Part:
    """Through ``datasets``, by a name on the hub or a folder with the hub's layout."""
    configs = config_names(name) if config is None else [config]
    if config is None:
        config = role if role in configs else None
        parts = {"corpus", "queries"} & set(configs)
        if parts and config is None:
            if role != "qrels":
                raise InputError(f"{name}: this dataset has no {role}, only {', '.join(sorted(configs))}")
            if "default" not in configs:
                return find_part(f"{name}-qrels", role, None, split)
            config = "default"
    splits = split_names(name, config)
    whole = role == "queries" and split is not None and len(splits) == 1 and split not in splits
    chosen = choose_split(name, splits, role, None if whole else split)
    return Part(read_dataset(name, config, chosen), whole=whole)

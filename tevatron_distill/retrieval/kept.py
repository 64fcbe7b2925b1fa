"""Indexes that are kept: a folder that is built once, found again by what it was made of, whole or not there."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tevatron_distill.formats.disk import lock, replace_text, writing
from tevatron_distill.formats.output import as_json, read_record
from tevatron_distill.schema import InputError, Passage

logger = logging.getLogger(__name__)

RECORD = "index.json"
LOCK = "index.lock"


def fingerprint(passages: Iterable[Passage]) -> str:
    """SHA-256, in hexadecimal, of the passages' docids, titles and texts in their order."""
    digest = hashlib.sha256()
    for passage in passages:
        digest.update(json.dumps([passage.docid, passage.title, passage.text]).encode())
    return digest.hexdigest()


def name_of(kind: str, made_of: Mapping[str, object]) -> str:
    """A folder's name that says by what an index is found again.

    >>> name_of("lucene", {"language": "english"})
    'lucene-086938cd88d3'
    """
    return f"{kind}-{hashlib.sha256(as_json(made_of).encode()).hexdigest()[:12]}"


def keep(folder: Path, made_of: Mapping[str, object], make: Callable[[Path], None], *, resumes: bool = False) -> None:
    """See that a folder holds the index that is made of these; build it where it is missing.

    Args:
        folder: where the index stands.
        made_of: fingerprint and settings, name to JSON value.
        make: fills an empty folder with the index.
        resumes: `make` goes on with what a killed run has left; else the folder is emptied first.

    Raises:
        InputError: if the folder, or what a killed run has left of it, holds something else, another process is
            building it, or it cannot be written.
    """
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.partial")
        with writing(partial):
            partial.mkdir(parents=True, exist_ok=True)
            held = open(partial / LOCK, "wb")  # noqa: SIM115  held until the folder has its name
        lock(held, folder)
        with held:
            if folder.exists():  # another process has just finished it
                shutil.rmtree(partial)
            else:
                _build(partial, made_of, make, resumes)
                with writing(folder):
                    partial.rename(folder)
                    (folder / LOCK).unlink()
                logger.info("%s: the index is kept here for the next run", folder)
                return
    check(folder, made_of)
    logger.info("%s: the index is used again", folder)


def check(folder: Path, made_of: Mapping[str, object]) -> None:
    """Refuse an index that is made of something else.

    Args:
        folder: where it stands.
        made_of: what is asked for; names that the index's record has besides are not looked at.

    Raises:
        InputError: naming what differs.
    """
    record = read_record(folder / RECORD)
    differing = [name for name, value in made_of.items() if record.get(name) != value]
    if differing:
        has = ", ".join(f"{name} {record.get(name, 'unknown')}" for name in differing)
        raise InputError(
            f"{folder}: the index must be made of the same {' and '.join(differing)}; it has {has}; name another "
            "folder, or delete this one to have it built anew"
        )


def _build(partial: Path, made_of: Mapping[str, object], make: Callable[[Path], None], resumes: bool) -> None:
    if resumes and (partial / RECORD).is_file():
        check(partial, made_of)
    else:
        for left in partial.iterdir():  # by a run that was killed
            if left.name != LOCK:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
    if resumes:
        replace_text(partial / RECORD, as_json(made_of))
    with writing(partial):
        make(partial)
    replace_text(partial / RECORD, as_json(made_of))

"""Readers and writers, one dialect a file; the two functions here tell a file's dialect by its first row."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from tevatron_distill.formats.dialects import FORMATS, check_options, find_format
from tevatron_distill.formats.groups import check_names
from tevatron_distill.formats.hub import is_saved_dataset, read_dataset, read_saved_dataset
from tevatron_distill.formats.jsonl import read_json_rows
from tevatron_distill.formats.parquet import ENDING, read_parquet
from tevatron_distill.formats.reading import Parse, ReadOptions, Row, Tally
from tevatron_distill.formats.teacher_run import order_by_run
from tevatron_distill.schema import Candidates, Group, InputError

logger = logging.getLogger(__name__)

T = TypeVar("T")
ENDINGS = (".jsonl", ".json", ".jsonl.gz", ".json.gz", ENDING)


def load_groups(
    dataset_path: str | Path | None,
    *,
    dataset_name: str = "json",
    dataset_config: str | None = None,
    dataset_split: str = "train",
    dataset_cache_dir: str | None = None,
    permutation_path: str | Path | None = None,
    teacher_run_path: str | Path | None = None,
    options: ReadOptions | None = None,
    tally: Tally | None = None,
) -> list[Group]:
    """Read training rows of any dialect of `FORMATS`, told by the first row's keys.

    Args:
        dataset_path: JSON lines or one JSON array (also ``.gz``), a folder of such files, or a save_to_disk folder.
        dataset_name: ``json`` for files of ours and these; else a name for ``datasets.load_dataset``.
        dataset_config: its config.
        dataset_split: its split, also of a save_to_disk folder.
        dataset_cache_dir: where ``datasets`` keeps what it downloads.
        permutation_path: InstructDistill's list of ``"3 > 1 > 2"`` strings.
        teacher_run_path: a teacher's run over the candidates.
        options: how the rows are to be read.
        tally: takes account of what was left out or repaired, and decides whether a row that breaks a rule is an
            error; without it, it is, and the account is logged.

    Raises:
        InputError: if the dialect is not known, a side file is missing or not used, or a row breaks a rule of its
            dialect.
    """
    options = options or ReadOptions()
    if permutation_path is not None:
        options = replace(options, permutation_path=str(permutation_path))
    if teacher_run_path is not None:
        options = replace(options, teacher_run_path=str(teacher_run_path))
    used = tally or Tally()
    used.begin_file()
    where = (dataset_name, dataset_config, dataset_split, dataset_cache_dir)
    rows, name, source = _open(dataset_path, where, options, used)
    dialect = FORMATS[name]
    if dialect.verdict is not None and not getattr(options, dialect.verdict):
        raise InputError(f"{source}: {name} rows hold no verdict; give it by --{dialect.verdict}")
    if dialect.groups is not None:
        found = dialect.groups(rows, options, used)
    elif dialect.candidates is not None and options.teacher_run_path:
        found = order_by_run(dialect.candidates(rows, options, used), options.teacher_run_path, used)
    else:
        raise InputError(f"{source}: {name} rows hold no verdict")
    groups = check_names(_first(found, options), "groups", source, used)
    if tally is None:
        used.warn()
    return groups


def load_candidates(
    dataset_path: str | Path | None,
    *,
    dataset_name: str = "json",
    dataset_config: str | None = None,
    dataset_split: str = "train",
    dataset_cache_dir: str | None = None,
    options: ReadOptions | None = None,
    tally: Tally | None = None,
) -> list[Candidates]:
    """Read candidates with texts: the rows of every dialect that holds a list in an order of its own.

    Where the rows have no first-stage scores, a passage's score is minus its place.

    Args: as of `load_groups`.

    Raises:
        InputError: if the file is of another kind, or a row breaks a rule of its dialect.
    """
    options = options or ReadOptions()
    used = tally or Tally()
    used.begin_file()
    where = (dataset_name, dataset_config, dataset_split, dataset_cache_dir)
    rows, name, source = _open(dataset_path, where, options, used)
    parse = _candidates_of(name, source)
    candidates = check_names(_first(parse(rows, options, used), options), "candidates", source, used)
    if tally is None:
        used.warn()
    return candidates


class CandidateStream:
    """Candidates that are read anew each time one goes through them, so that few are held at a time.

    All are read once before anything else, so that a row that breaks a rule is an error before any work is done. Rows
    of Tevatron's rerank input are read so where those of a query stand together; else the file is held in memory.

    Args:
        dataset_path: and the keywords as of `load_candidates`.
        depth: only the first candidates of each query; None for all.
        shard: every ``shard[1]``-th query from ``shard[0]`` on.

    Attributes:
        num_queries: how many there are.

    Raises:
        InputError: as `load_candidates`.
    """

    def __init__(
        self,
        dataset_path: str | Path | None,
        *,
        dataset_name: str = "json",
        dataset_config: str | None = None,
        dataset_split: str = "train",
        dataset_cache_dir: str | None = None,
        options: ReadOptions | None = None,
        depth: int | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        self._path = dataset_path
        self._where = (dataset_name, dataset_config, dataset_split, dataset_cache_dir)
        self._options = options or ReadOptions()
        self._depth = depth
        self._shard = shard
        self._held: list[Candidates] | None = None
        self.num_queries = 0
        tally = Tally()
        names: set[bytes] = set()  # hashes, of 8 bytes each
        num_read = 0
        for entry in self._read(tally):
            num_read += 1
            names.add(hashlib.blake2b(entry.query_id.encode(), digest_size=8).digest())
            if len(names) < num_read:
                break
        if len(names) < num_read or not num_read:
            self._hold()
        else:
            tally.warn()
        self.num_queries = len(range(shard[0], num_read if self._held is None else len(self._held), shard[1]))

    def __iter__(self) -> Iterator[Candidates]:
        entries = self._read(Tally()) if self._held is None else self._held
        for entry in itertools.islice(entries, self._shard[0], None, self._shard[1]):
            yield entry.top(self._depth) if self._depth else entry

    def _read(self, tally: Tally) -> Iterator[Candidates]:
        rows, name, source = _open(self._path, self._where, self._options, tally, again=self.num_queries > 0)
        parse = FORMATS[name].adjacent or _candidates_of(name, source)
        for _, entry in _first(parse(rows, self._options, tally), self._options):
            yield entry

    def _hold(self) -> None:
        """Read a query that comes up again: its rows are scattered, or it is an error."""
        name, config, split, cache = self._where
        self._held = load_candidates(
            self._path,
            dataset_name=name,
            dataset_config=config,
            dataset_split=split,
            dataset_cache_dir=cache,
            options=self._options,
        )
        logger.warning(
            "%s: the rows of a query do not stand together, so that the whole file is held in memory; sort it by "
            "query_id to read a large one",
            self._path or name,
        )


def _candidates_of(name: str, source: str) -> Parse[Candidates]:
    parse = FORMATS[name].candidates
    if parse is None:
        kinds = "; ".join(f"{other}: {entry.keys}" for other, entry in FORMATS.items() if entry.candidates)
        raise InputError(f"{source}: candidates must be rows of one of these kinds ({kinds}); got {name} rows")
    return parse


def _first(found: Iterator[T], options: ReadOptions) -> Iterator[T]:
    return itertools.islice(found, options.max_queries) if options.max_queries > 0 else found


def _open(
    path: str | Path | None,
    where: tuple[str, str | None, str, str | None],
    options: ReadOptions,
    tally: Tally,
    *,
    again: bool = False,
) -> tuple[Iterator[tuple[str, Row]], str, str]:
    name, config, split, cache_dir = where
    if path is None and name == "json":
        raise InputError("--dataset_path or --dataset_name is needed")
    if name != "json":
        rows, source = read_dataset(name, config, split, None if path is None else str(path), cache_dir), name
    else:
        rows, source = _open_path(Path(str(path)), split, tally), str(path)
    first = next(rows, None)
    if first is None:
        raise InputError(f"{source}: rows are needed; got none")
    dialect = find_format(first[1], source, options)
    if options.dataset_format == "auto" and not again:
        logger.info("%s: read as %s (%s)", source, dialect, FORMATS[dialect].keys)
    check_options(dialect, source, options)
    return itertools.chain([first], rows), dialect, source


def _open_path(path: Path, split: str, tally: Tally) -> Iterator[tuple[str, Row]]:
    if is_saved_dataset(path):
        return read_saved_dataset(path, split)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.name.endswith(ENDINGS))
        return itertools.chain.from_iterable(_open_file(file, tally) for file in files)
    return _open_file(path, tally)


def _open_file(path: Path, tally: Tally) -> Iterator[tuple[str, Row]]:
    return read_parquet(path) if path.suffix == ENDING else read_json_rows(path, tally)

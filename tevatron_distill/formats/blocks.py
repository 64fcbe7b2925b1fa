"""Output that is made block by block, by one process or by many, and is the same in the end."""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from tevatron_distill.formats.disk import corrupt, lock
from tevatron_distill.formats.output import ResumableOutput, describe_run, refuse_existing
from tevatron_distill.formats.parts import Parts, PartWriter, parts_folder
from tevatron_distill.memory import peak_memory
from tevatron_distill.schema import InputError
from tevatron_distill.sharing import Processes

logger = logging.getLogger(__name__)

T = TypeVar("T")


class BlockOutput:
    """A text file whose lines come in numbered blocks.

    One process appends them to ``path.partial`` in their order. Where there are several, each appends the blocks of
    its share to a part of its own in ``path.parts``, and the first merges them at the end. Either goes on behind what
    the other has left, with any number of processes. A shard of a job array (``num_shards`` above 1) writes its part
    and leaves the merging to `merge_parts`.

    Args:
        path: the finished file.
        arguments: what the output depends on, name to JSON value.
        inputs: files and folders whose content the output depends on.
        overwrite: begin anew.
        processes: those that make it together.
        num_shards: jobs without a launcher that share the blocks out.
        shard_index: which of them this is.

    Attributes:
        done: the first block that is not finished, and how many of its lines are there, as `find_done` has found.
        num_blocks: blocks of the input, as far as it has been read.

    Raises:
        InputError: if a complete file exists, or unfinished work of another run, or an input is missing.
    """

    def __init__(
        self,
        path: str | Path,
        arguments: Mapping[str, object],
        inputs: Sequence[str | Path],
        overwrite: bool = False,
        *,
        processes: Processes | None = None,
        num_shards: int = 1,
        shard_index: int = 0,
    ) -> None:
        self.path = Path(path)
        self.processes = processes or Processes()
        self.share = self.processes.share(num_shards, shard_index)
        self.done = (0, 0)
        self.num_blocks = 0
        self._overwrite = overwrite
        self._folder = parts_folder(self.path)
        self._is_shard = num_shards > 1
        if self._is_shard and overwrite:
            raise InputError(
                f"--num_shards {num_shards} and --overwrite_output_dir do not go together, for each shard would throw "
                f"away what the others have done; remove {self.path} and {self._folder} first"
            )
        refuse_existing(self.path, overwrite)
        self._whole: ResumableOutput | None = None
        if self.processes.is_first and not self._is_shard:
            self._whole = ResumableOutput(path, arguments, inputs, overwrite)
        whole = self._whole
        self._config: dict[str, Any] = self.processes.from_first(
            lambda: describe_run(arguments, inputs) if whole is None else whole.config
        )
        self._part: PartWriter | None = None
        self._unwritten: tuple[int, list[str]] | None = None
        self._next = self._skip = 0
        self._stack = ExitStack()

    @property
    def is_whole(self) -> bool:
        """Whether this process ends with the whole output: it is alone, or the one that merges."""
        return self._whole is not None

    @property
    def num_done_lines(self) -> int:
        """Lines that an interrupted run of one process has left."""
        return 0 if self._whole is None else self._whole.num_done_lines

    def __enter__(self) -> BlockOutput:
        with ExitStack() as stack:
            if self._whole is not None:
                stack.enter_context(self._whole)
                refuse_busy(self._folder)
                if self._overwrite:
                    shutil.rmtree(self._folder, ignore_errors=True)
            elif self.processes.is_first:
                refuse_whole(self.path)
            self.processes.wait()
            self._parts = Parts(self._folder, self._config)
            if self.share.count > 1:
                self._part = PartWriter(self._folder, self.share, self._config)
                stack.callback(self._part.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        if error is None and self._whole is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def find_done(
        self,
        blocks: Iterable[T],
        lines_of: Callable[[T], tuple[Collection[str], int]],
        name_of: Callable[[str, str], str],
        *,
        exact: bool = True,
    ) -> None:
        """Look which blocks an interrupted run of one process has finished.

        Args:
            blocks: of the input.
            lines_of: names that a block's lines may have, and how many lines there are.
            name_of: the name of a line, from its place and text.
            exact: a block never has fewer lines.

        Raises:
            InputError: at a line that is corrupt or out of its order.
        """
        whole = self._whole
        if whole is None or not whole.num_done_lines:
            found = (0, 0)
        else:
            named = ((place, name_of(place, line)) for place, line in whole.done_lines())
            found = _count_done(blocks, lines_of, named, exact=exact)
        self.done = self.processes.from_first(lambda: found)
        self._next, self._skip = self.done

    @property
    def is_done(self) -> Callable[[int], bool]:
        """Whether a block was finished before this run began; can be sent to other machines."""
        return partial(_is_among, self.done[0], frozenset(self._parts.blocks))

    def todo(self, blocks: Iterable[T]) -> Iterator[tuple[int, T]]:
        """The blocks, with their numbers, that this process has to make."""
        is_done = self.is_done
        for number, block in enumerate(blocks):
            self.num_blocks = number + 1
            if self.share.owns(number) and not is_done(number):
                yield number, block

    def write(self, number: int, lines: Sequence[str]) -> None:
        """Write lines of a block; blocks come in rising order, and the lines of one may come bit by bit."""
        if self._part is not None:
            if self._unwritten is not None and self._unwritten[0] == number:
                self._unwritten[1].extend(lines)
                return
            self._flush()
            self._unwritten = (number, list(lines))
        else:
            self._copy_up_to(number)
            self._append(lines)

    def end_block(self) -> None:
        """See the block that was written last on the disk."""
        self._flush()

    def finish(self, report: Mapping[str, object]) -> dict[str, object]:
        """End this process's share; the first of all merges what they have made.

        Args:
            report: figures of this process.

        Returns:
            The figures with peak memory, and in the process that merges those of all.
        """
        own: dict[str, object] = {**report, **peak_memory()}
        if self._part is not None:
            self._flush()
            self._part.finish(self.num_blocks, own)
            self.processes.wait()
        if self._whole is None:
            return own
        if self._part is not None:
            self._parts = Parts(self._folder, self._config)
            own = combine_reports([part.report for part in self._parts.parts if part.num_blocks is not None])
        last = max(self._parts.blocks, default=-1)
        self._copy_up_to(max(self.num_blocks, last + 1))
        self._whole.add_report(own)
        return own

    def add_report(self, report: Mapping[str, object]) -> None:
        """Put other figures into the record of the whole output."""
        if self._whole is not None:
            self._whole.add_report(report)

    def lines(self) -> Iterator[tuple[str, str]]:
        """Place and text of each line of the whole output, when it is finished."""
        if self._whole is None:
            raise RuntimeError("only the process that merges has the whole output")
        return self._whole.written_lines()

    def _flush(self) -> None:
        if self._part is not None and self._unwritten is not None:
            self._part.append(*self._unwritten)
        self._unwritten = None

    def _copy_up_to(self, number: int) -> None:
        """Put what parts hold of the blocks in front of this one in its place."""
        while self._next < number:
            if self._next in self._parts.blocks:
                self._append(self._parts.lines(self._next))
            self._next, self._skip = self._next + 1, 0

    def _append(self, lines: Sequence[str]) -> None:
        if self._whole is None:
            raise RuntimeError("only the process that merges has the whole output")
        self._whole.append(lines[self._skip :])
        self._skip = max(0, self._skip - len(lines))


def _is_among(first: int, others: frozenset[int], number: int) -> bool:
    return number < first or number in others


def _count_done(
    blocks: Iterable[T],
    lines_of: Callable[[T], tuple[Collection[str], int]],
    lines: Iterator[tuple[str, str]],
    *,
    exact: bool,
) -> tuple[int, int]:
    waiting = next(lines, None)
    number = -1
    for number, block in enumerate(blocks):
        names, most = lines_of(block)
        count = 0
        while waiting is not None and count < most and waiting[1] in names:
            count, waiting = count + 1, next(lines, None)
        if waiting is None:
            return (number + 1, 0) if count == most else (number, count)
        if exact and count < most:
            break
    if waiting is not None:
        raise corrupt(waiting[0], f'a line of query_id "{waiting[1]}", which is not its place in the input')
    return number + 1, 0


def combine_reports(reports: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """One report from those of several processes: counts are added up, the rest stands under ``processes``.

    >>> combine_reports([{"queries": 2, "seconds": 1.5}, {"queries": 3, "seconds": 2.5}])
    {'queries': 5, 'processes': [{'queries': 2, 'seconds': 1.5}, {'queries': 3, 'seconds': 2.5}]}
    """
    counts: dict[str, object] = {}
    for name in dict.fromkeys(itertools.chain.from_iterable(reports)):
        values = [report.get(name, 0) for report in reports]
        if all(isinstance(value, int) for value in values):
            counts[name] = sum(values)
    return {**counts, "processes": [dict(report) for report in reports]}


def merge_parts(path: str | Path, folder: str | Path | None = None, overwrite: bool = False) -> dict[str, object]:
    """Put the parts of a job array together.

    Args:
        path: the finished file.
        folder: where the parts lie; None for ``path.parts``. Parts beside the output are removed at the end.
        overwrite: replace a file that is complete.

    Returns:
        Its report.

    Raises:
        InputError: if shards are missing, not finished or overlap, or are parts of different runs.
    """
    own = parts_folder(Path(path))
    folder = own if folder is None else Path(folder)
    refuse_busy(folder)
    parts = Parts(folder)
    totals = sorted({part.num_blocks for part in parts.parts if part.num_blocks is not None})
    if len(totals) != 1:
        found = f"input of {totals} blocks" if totals else f"{len(parts.parts)} parts, none of them finished"
        raise InputError(f"{folder}: the shards must be of one input and finished; got {found}")
    missing = [block for block in range(totals[0]) if block not in parts.blocks]
    if missing:
        count = next(part.share.count for part in parts.parts if part.num_blocks is not None)
        shards = sorted({block % count for block in missing})
        raise InputError(
            f"{folder}: all blocks of queries must be there; {len(missing)} of {totals[0]} are missing, of "
            f"shard_index {', '.join(map(str, shards))} of {count}; run these shards (again)"
        )
    report = combine_reports([part.report for part in parts.parts if part.num_blocks is not None])
    with ResumableOutput.of_record(path, parts.config, overwrite) as output:
        output.clear()
        for block in range(totals[0]):
            output.append(parts.lines(block))
        output.add_report(report)
    if folder == own:
        parts.remove()
    return report


def refuse_busy(folder: Path) -> None:
    """Stop where processes are writing parts.

    Raises:
        InputError: naming one of them.
    """
    for path in sorted(folder.glob("*.part")):
        with open(path, "rb") as file:
            lock(file, path, shared=True)


def refuse_whole(path: Path) -> None:
    """Stop a shard where one process is writing the whole output, or has left some of it.

    Raises:
        InputError: in both cases.
    """
    partial = path.with_name(path.name + ".partial")
    if not partial.exists():
        return
    with open(partial, "rb") as file:
        lock(file, partial, shared=True)
    if partial.stat().st_size:
        raise InputError(
            f"{partial}: holds what a run without --num_shards has begun; go on by that command, with or without a "
            "launcher, or remove it"
        )

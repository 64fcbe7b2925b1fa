"""The loop of the drivers whose queries are shared out: blocks of queries become blocks of lines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from tevatron_distill.arguments.share import ShareArguments
from tevatron_distill.driver.on_ray import run_on_ray
from tevatron_distill.formats.blocks import BlockOutput, combine_reports
from tevatron_distill.progress import progress
from tevatron_distill.schema import Candidates

Block: TypeAlias = Sequence[Candidates]


class Work(Protocol):
    """What makes the lines of a block; it holds the model."""

    def __call__(self, block: Block) -> Iterator[list[str]]:
        """The lines of a block, in the order of its queries, as they come."""

    def report(self) -> Mapping[str, Any]:
        """Figures of all that was made so far."""

    def close(self) -> None:
        """Let go what it holds."""


@dataclass
class Job:
    """What is done to which queries.

    Attributes:
        make: makes the work; it and ``blocks`` can be sent to other machines.
        blocks: the blocks of queries, anew each time; a function of the input alone.
        lines_of: the query_ids of a block, and how many lines it makes at most.
        name_of: the query_id of a line that an interrupted run has left, from its place and text.
        num_queries: for the progress bar.
        exact: a block never makes fewer lines than ``lines_of`` says.
        queries: how many were done in this run,
        lines: and how many lines they made.
        report: the work's own figures.
    """

    make: Callable[[], Work]
    blocks: Callable[[], Iterable[Block]]
    lines_of: Callable[[Block], tuple[Collection[str], int]]
    name_of: Callable[[str, str], str]
    num_queries: int
    exact: bool = True
    queries: int = 0
    lines: int = 0
    report: Mapping[str, Any] = field(default_factory=dict)

    def run(self, output: BlockOutput, share_args: ShareArguments, check: Callable[[Work], None] | None = None) -> None:
        """Make the blocks that nobody has made yet, and write them.

        Args:
            output: where the lines go.
            share_args: who works.
            check: is shown the work after each block of this process, and may stop it by an error.
        """
        output.find_done(self.blocks(), self.lines_of, self.name_of, exact=self.exact)
        with progress(total=self.num_queries, unit="query", hidden=not output.processes.is_first) as bar:
            if share_args.executor == "ray":
                self._run_on_ray(output, share_args, bar)
            else:
                self._run_here(output, bar, check)

    def _run_here(self, output: BlockOutput, bar: Any, check: Callable[[Work], None] | None) -> None:
        work: Work | None = None
        try:
            for number, block in output.todo(self._watched(bar)):
                work = work or self.make()
                for lines in work(block):
                    output.write(number, lines)
                    self.lines += len(lines)
                output.end_block()
                self.queries += len(block)
                self.report = work.report()
                if check is not None:
                    check(work)
        finally:
            if work is not None:
                work.close()

    def _watched(self, bar: Any) -> Iterator[Block]:
        for block in self.blocks():
            yield block
            bar.update(len(block))

    def _run_on_ray(self, output: BlockOutput, share_args: ShareArguments, bar: Any) -> None:
        reports: dict[str, Mapping[str, Any]] = {}
        for result in run_on_ray(self.make, self.blocks, output.is_done, share_args):
            output.write(result.number, result.lines)
            reports[result.actor] = result.report
            self.queries, self.lines = self.queries + result.queries, self.lines + len(result.lines)
            bar.update(result.queries)
        self.report = combine_reports(list(reports.values()))


def cut_blocks(
    candidates: Iterable[Candidates], *, pairs: int | None = None, queries: int | None = None
) -> Iterator[list[Candidates]]:
    """Consecutive queries, until a block has so many passages or queries; a function of the input alone.

    An interrupted run so goes on with the batches, and the bytes, of an uninterrupted one, and a run of many processes
    has those of one.
    """
    block: list[Candidates] = []
    size = 0
    for one in candidates:
        block.append(one)
        size += len(one.passages)
        if (pairs is not None and size >= pairs) or (queries is not None and len(block) >= queries):
            yield block
            block, size = [], 0
    if block:
        yield block

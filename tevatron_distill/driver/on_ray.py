"""Blocks of queries on a Ray cluster; the one file that knows Ray (extra ``ray``)."""

from __future__ import annotations

import json
import pickle
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow

from tevatron_distill.extras import require_package
from tevatron_distill.schema import Candidates, InputError

if TYPE_CHECKING:
    from tevatron_distill.arguments.share import ShareArguments


class Result(NamedTuple):
    """What an actor made of a block.

    Attributes:
        number: of the block.
        queries: in it.
        lines: of the output.
        actor: who made it.
        report: that actor's figures so far.
    """

    number: int
    queries: int
    lines: list[str]
    actor: str
    report: dict[str, Any]


def run_on_ray(
    make: Callable[[], Any],
    blocks: Callable[[], Iterable[Sequence[Candidates]]],
    is_done: Callable[[int], bool],
    share_args: ShareArguments,
) -> Iterator[Result]:
    """Send blocks to actors, each with a work of its own.

    One task reads the input, block by block as the actors take them; a block whose worker was lost is made again.

    Args:
        make: makes the work, in each actor.
        blocks: the blocks, anew each time; must be readable from every machine.
        is_done: whether a block is left out.
        share_args: how many actors, and where.

    Yields:
        The blocks that were not done, in their order.

    Raises:
        InputError: if Ray is not installed.
    """
    require_package("ray", "--executor ray")
    import ray
    import ray.data
    import ray.exceptions

    if not ray.is_initialized():
        ray.init(address=share_args.ray_address, log_to_driver=False, configure_logging=False)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # a block of queries is sent as soon as it is read
    has_gpu = ray.cluster_resources().get("GPU", 0) > 0
    check_room(int(ray.cluster_resources().get("CPU", 0)), share_args.ray_actors)
    results = ray.data.read_datasource(_source(blocks, is_done), override_num_blocks=1).map_batches(
        Actor,
        fn_constructor_args=(make,),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=share_args.ray_actors),
        num_cpus=1,
        num_gpus=1 if has_gpu else 0,
    )
    try:
        for row in results.iter_rows():
            yield Result(**json.loads(row["result"]))
    except ray.exceptions.RayError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__cause__ or getattr(cause, "cause", None)
        if cause is None:
            raise
        raise InputError(str(cause)) from error


class Actor:
    """Holds a work on a worker, which makes the lines of one block after another.

    Args:
        make: makes the work.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._work = make()
        self._name = uuid.uuid4().hex

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        [number], [data] = batch["number"], batch["data"]
        block = pickle.loads(data)
        lines = [line for some in self._work(block) for line in some]
        report = dict(self._work.report())
        return {"result": [json.dumps(Result(int(number), len(block), lines, self._name, report)._asdict())]}


def check_room(num_cpus: int, num_actors: int) -> None:
    """Refuse a cluster on which the task that reads the input would wait for actors that wait for it.

    Raises:
        InputError: if there are not more CPUs than actors.
    """
    if num_cpus <= num_actors:
        raise InputError(
            f"--ray_actors {num_actors} needs a cluster of more CPUs than actors, for reading takes one; got "
            f"{num_cpus}; start it by ray start --head --num-cpus {num_actors + 2} (a count, not cores), or take fewer "
            "actors"
        )


def _source(blocks: Callable[[], Iterable[Sequence[Candidates]]], is_done: Callable[[int], bool]) -> Any:
    """The blocks as a datasource of one task that reads them one by one."""
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    def read() -> Iterator[Any]:
        for number, block in enumerate(blocks()):
            if not is_done(number):
                yield pyarrow.table({"number": [number], "data": [pickle.dumps(list(block))]})

    class Blocks(Datasource):
        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, parallelism: int, *args: Any, **keywords: Any) -> list[Any]:
            return [ReadTask(read, BlockMetadata(None, None, None, None))]

    return Blocks()

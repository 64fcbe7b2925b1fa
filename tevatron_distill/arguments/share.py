"""Flags of the drivers whose queries are shared out."""

from __future__ import annotations

from dataclasses import dataclass, field

from tevatron_distill.arguments import check_choice
from tevatron_distill.arguments.screens import first
from tevatron_distill.schema import InputError

EXECUTORS = ("local", "ray")


@dataclass
class ShareArguments:
    """Who else works on the same queries."""

    num_shards: int = field(
        default=1,
        metadata={
            "help": first(
                "how",
                "jobs of a job array that share the queries out, each writing its part; driver.merge puts them "
                "together. Processes of one launcher (torchrun, accelerate) need no flag",
            )
        },
    )
    shard_index: int = field(
        default=0, metadata={"help": first("how", "the shard that this job works on, counted from 0")}
    )
    executor: str = field(
        default="local",
        metadata={
            "choices": list(EXECUTORS),
            "help": first(
                "how", "`ray` sends blocks of queries to actors on a Ray cluster (extra `ray`), each with a model"
            ),
        },
    )
    ray_actors: int = field(default=2, metadata={"help": "executor ray: actors, each on a GPU where there are some"})
    ray_address: str | None = field(
        default=None, metadata={"help": "executor ray: the cluster (default: the one at hand, else this machine)"}
    )

    def __post_init__(self) -> None:
        check_choice("executor", self.executor, EXECUTORS)
        if self.num_shards < 1 or not 0 <= self.shard_index < self.num_shards:
            raise InputError(
                "--num_shards must be at least 1 and --shard_index lie in 0..num_shards - 1; "
                f"got {self.num_shards} and {self.shard_index}"
            )
        if self.ray_actors < 1:
            raise InputError(f"--ray_actors must be at least 1; got {self.ray_actors}")
        if self.executor == "ray" and self.num_shards > 1:
            raise InputError("--executor ray shares the queries out itself; leave --num_shards out")

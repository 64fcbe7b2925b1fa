"""The orders that a report compares: runs and teachers' groups, with what their drivers have recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tevatron_distill.formats.jsonl import finite, mapping
from tevatron_distill.formats.output import config_path, read_record
from tevatron_distill.schema import Group, InputError, Run

ENDINGS = (".gz", ".trec", ".tsv", ".txt", ".run", ".jsonl", ".json", ".parquet")


@dataclass(frozen=True)
class System:
    """One order of the passages of every query.

    Attributes:
        name: as it is shown.
        path: where it was read.
        run: the order.
        is_teacher: it was read from groups.
        num_ranked: ``{query_id: places that the teacher has ordered}``, for groups; those behind are tied.
        seconds: a query took, in the driver that made it; None where nobody knows.
        cached: share of a teacher's answers that came from the cache, which makes its time too short.
        facts: what the driver's record says of it (model, teacher, sort, time, commit).
    """

    name: str
    path: str
    run: Run
    is_teacher: bool = False
    num_ranked: Mapping[str, int] = field(default_factory=dict)
    seconds: float | None = None
    cached: float = 0.0
    facts: Mapping[str, str] = field(default_factory=dict)


def build_system(
    name: str, path: str, run: Run, *, groups: Sequence[Group] | None = None, seconds: float | None = None
) -> System:
    """A system with what stands in the record beside its file.

    Args:
        name: as it is shown.
        path: the run's or the groups' file.
        run: the order.
        groups: what it is made of, for a teacher.
        seconds: a query takes, where the caller knows better than the record.
    """
    record = read_record(config_path(Path(path)))
    report = mapping(record.get("report"))
    return System(
        name=name,
        path=path,
        run=run,
        is_teacher=groups is not None,
        num_ranked={group.query_id: group.num_ranked for group in groups or ()},
        seconds=seconds_per_query(report) if seconds is None else seconds,
        cached=0.0 if seconds is not None else share_of_cached(report),
        facts=facts_of(record),
    )


def run_of_groups(groups: Sequence[Group]) -> Run:
    """The run of the groups' permutations; scores count down the places."""
    return {
        group.query_id: {
            group.passages[position].docid: float(len(group.permutation) - place)
            for place, position in enumerate(group.permutation)
        }
        for group in groups
    }


def names_of(paths: Sequence[str], given: Sequence[str]) -> list[str]:
    """The given names, or the files' names without their endings; whole paths where those would be alike.

    >>> names_of(["a/bm25.trec", "b/student.run.gz"], [])
    ['bm25', 'student']
    >>> names_of(["a/student.trec", "b/student.trec"], [])
    ['a/student.trec', 'b/student.trec']
    """
    if given:
        return list(given)
    names = []
    for path in paths:
        name = Path(path).name
        while name.endswith(ENDINGS) and name not in ENDINGS:
            name = Path(name).stem
        names.append(name)
    return [name if names.count(name) == 1 else path for name, path in zip(names, paths, strict=True)]


def seconds_per_query(report: Mapping[str, Any]) -> float | None:
    """Seconds a query of a driver's report; the mean over processes where several shared the work.

    >>> seconds_per_query({"processes": [{"queries": 1, "seconds_per_query": 4}, {"queries": 3}]})
    >>> seconds_per_query({"processes": [{"queries": 1, "seconds_per_query": 4.0}, {"queries": 3, \
"seconds_per_query": 2.0}]})
    2.5
    """
    value = finite(report.get("seconds_per_query"))
    if value is not None:
        return value if value > 0 else None
    processes = report.get("processes")
    parts = [mapping(part) for part in processes] if isinstance(processes, list) else []
    parts = [part for part in parts if part.get("queries") != 0]
    seconds = [finite(part.get("seconds_per_query")) for part in parts]
    counts = [finite(part.get("queries")) for part in parts]
    known = [(one, count) for one, count in zip(seconds, counts, strict=True) if one is not None and count is not None]
    if not known or len(known) < len(parts) or any(count <= 0 for _, count in known):
        return None
    mean = sum(one * count for one, count in known) / sum(count for _, count in known)
    return mean if mean > 0 else None


def share_of_cached(report: Mapping[str, Any]) -> float:
    """Share of a teacher's answers that were not asked for because the cache had them."""
    asked, cached = (max(0.0, finite(report.get(key)) or 0.0) for key in ("asked", "cached"))
    return cached / (asked + cached) if cached else 0.0


def facts_of(record: Mapping[str, Any]) -> dict[str, str]:
    """The few lines of a driver's record that say what made an output."""
    arguments = mapping(record.get("arguments"))
    versions = mapping(record.get("versions"))
    wanted = ("model_name_or_path", "lora_name_or_path", "teacher", "sort", "engine", "prompt", "retriever", "depth")
    facts = {key: str(arguments[key]) for key in wanted if arguments.get(key) is not None}
    facts |= {key: str(record[key]) for key in ("time", "commit") if record.get(key)}
    return facts | {key: str(versions[key]) for key in ("tevatron-distill", "torch") if key in versions}


def check_seconds(given: Mapping[str, float], names: Sequence[str]) -> None:
    """Refuse a time of a system that is not there.

    Raises:
        InputError: naming those that are.
    """
    unknown = [name for name in given if name not in names]
    if unknown:
        raise InputError(f"--seconds_per_query must name an order of the report ({', '.join(names)}); got {unknown[0]}")

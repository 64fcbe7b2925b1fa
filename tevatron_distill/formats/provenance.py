"""What groups are and where they come from, in the few facts that a training's record keeps of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tevatron_distill.formats.jsonl import expand_pattern, finite
from tevatron_distill.formats.output import config_path, read_record
from tevatron_distill.schema import Group

COUNTS = ("answers", "malformed")
"""Keys of a group's ``teacher`` that are the group's own, and are added up."""

MOST_TEACHERS = 20
"""So many are named, those of most groups."""


def describe_groups(groups: Sequence[Group], dataset_path: str | None = None) -> dict[str, Any]:
    """Numbers of groups and passages, who gave the verdicts, and what asking took.

    Args:
        groups: all that is learned from.
        dataset_path: the file or pattern that they were read from; records of ``driver.teach`` beside it are kept.

    >>> from tevatron_distill.schema import Passage
    >>> about = {"name": "pairwise", "model": "flan", "answers": 2}
    >>> describe_groups([Group(q, "?", (Passage("d", "text"),), (0,), 1, teacher=about) for q in ("q1", "q2")])
    {'groups': 2, 'passages': 2, 'teachers': [{'name': 'pairwise', 'model': 'flan', 'groups': 2, 'answers': 4}]}
    """
    numbers: dict[str, Counter[str]] = {}
    for group in groups:
        teacher = dict(group.teacher or {})
        counts = {name: count_of(teacher.pop(name)) for name in COUNTS if name in teacher}
        numbers.setdefault(json.dumps(teacher, default=str), Counter()).update({"groups": 1, **counts})
    most = sorted(numbers.items(), key=lambda entry: -entry[1]["groups"])[:MOST_TEACHERS]
    teachers = [{**json.loads(teacher), **counted} for teacher, counted in most]
    found = {"groups": len(groups), "passages": sum(len(group.passages) for group in groups), "teachers": teachers}
    paths = expand_pattern(dataset_path) if dataset_path else []
    reports = {str(path): read_record(config_path(Path(path))).get("report") for path in paths}
    taught = {path: report for path, report in reports.items() if report}
    return {**found, "taught": taught} if taught else found


def count_of(value: object) -> int:
    """A count that stands in a group's ``teacher``; 0 for what is no number."""
    return int(finite(value) or 0)

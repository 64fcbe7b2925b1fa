"""Let a teacher order candidates, which makes groups: ``python -m tevatron_distill.driver.teach --help``."""

from __future__ import annotations

import inspect
import json
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from tevatron_distill.arguments import parse_arguments
from tevatron_distill.arguments.data import DatasetArguments
from tevatron_distill.arguments.teach import ANSWERS, TeachArguments
from tevatron_distill.driver.common import as_mapping, read_candidates, run_main
from tevatron_distill.engines import ENGINES, AnswerCache
from tevatron_distill.formats.groups import group_to_line, parse_group
from tevatron_distill.formats.instructdistill import format_permutations
from tevatron_distill.formats.jsonl import expand_pattern
from tevatron_distill.formats.output import ResumableOutput, refuse_existing, write_whole
from tevatron_distill.formats.runs import write_run
from tevatron_distill.prompts import PointPrompt, TeacherPrompt
from tevatron_distill.schema import Candidates, Group, InputError, Permutation
from tevatron_distill.sorting import SORTS
from tevatron_distill.teachers import TEACHERS, AskingTeacher, SelfConsistency, Teacher

logger = logging.getLogger(__name__)

MIN_ANSWERS = 50  # before the share of malformed ones says something


class Verdict(NamedTuple):
    """What is left of a group for the files beside it."""

    query_id: str
    docids: list[str]
    permutation: Permutation
    num_answers: int
    num_malformed: int


def main(argv: Sequence[str] | None = None) -> None:
    """Ask the teacher about every query and append its groups as they finish."""
    data_args, args = parse_arguments(argv, DatasetArguments, TeachArguments, prog="teach")
    check_side_files(args)
    logs = expand_pattern(args.recorded_path) if args.recorded_path else []
    paths = (data_args.dataset_path, args.qrels_path, *(args.merge_paths or ()), *logs)
    inputs = [path for path in paths if path is not None]
    output = ResumableOutput(args.output_path, as_mapping(data_args, args), inputs, args.overwrite_output_dir)
    candidates = read_candidates(data_args, args.depth)
    with ExitStack() as stack:
        teacher = build_teacher(args, stack)
        teacher.prepare(candidates)
        stack.enter_context(output)
        began = time.monotonic()
        verdicts = teach_all(teacher, candidates, output, args.queries_per_round, args.max_unparsed)
        num_taught = len(verdicts) - output.num_done_lines
        report = {
            "queries": len(verdicts),
            "resumed": output.num_done_lines,
            **teacher.report(),
            "seconds_per_query": (time.monotonic() - began) / max(1, num_taught),
        }
        write_side_files(args, verdicts)
        output.add_report(report)
    print_report(report)


def check_side_files(args: TeachArguments) -> None:
    """Refuse to write over finished files; those that an unfinished run left are its own.

    Raises:
        InputError: if one exists without ``--overwrite_output_dir``.
    """
    unfinished = Path(f"{args.output_path}.partial").exists()
    for path in (args.run_path, args.permutation_path):
        if path is not None:
            refuse_existing(path, args.overwrite_output_dir or unfinished)


def build_teacher(args: TeachArguments, stack: ExitStack) -> Teacher:
    """The teacher that the flags describe; what it must close is left to ``stack``."""
    row = TEACHERS[args.teacher]
    if not row.sorts:
        made: Teacher = row.make(**keywords_of(row.make, args))
        return made
    make_engine, make_sort = ENGINES[args.engine], SORTS[args.sort or ""]
    cache_path = args.cache_path or Path(args.output_path).with_name("answer_cache.sqlite")
    engine = make_engine(**keywords_of(make_engine, args))
    teacher = AskingTeacher(
        row.make(chosen_prompt(args, engine.answers)),
        engine,
        partial(make_sort, **keywords_of(make_sort, args)),
        args.sort or "",
        stack.enter_context(AnswerCache(cache_path, args.record_path)),
        question_size=args.question_size,
        sort_depth=args.sort_depth,
    )
    if not args.num_shuffles:
        return teacher
    return SelfConsistency(teacher, args.num_shuffles, args.merge, seed=args.seed, sort_depth=args.sort_depth)


def chosen_prompt(args: TeachArguments, answers: Collection[str]) -> TeacherPrompt:
    """The teacher's prompt, for the kind of answer and with the instruction that the flags ask for.

    Args:
        args: where they leave the kind open, it is the first of the teacher's that the engine can give.
        answers: the kinds that the engine can give.
    """
    row = TEACHERS[args.teacher]
    prompt = row.prompts[args.prompt or ""]
    if row.answers:
        possible = [kind for kind in row.answers if kind in answers]
        kind = ANSWERS[args.answer] or (possible or row.answers)[0]
        return replace(prompt, answer=kind)
    if isinstance(prompt, PointPrompt) and args.instruction is not None:
        return replace(prompt, instruction=args.instruction)
    return prompt


def keywords_of(make: Callable[..., Any], args: TeachArguments) -> dict[str, Any]:
    """The flags that ``make`` takes; a flag and its keyword have one spelling."""
    flags = as_mapping(args)
    return {name: flags[name] for name in inspect.signature(make).parameters if name in flags}


def teach_all(
    teacher: Teacher,
    candidates: Sequence[Candidates],
    output: ResumableOutput,
    queries_per_round: int,
    max_unparsed: float = 1.0,
) -> list[Verdict]:
    """Append the groups of all queries, in the order of the input, block by block.

    Blocks are formed from the input alone. One that an interruption has cut is taught again as a whole, mostly from
    the answer cache, and only its missing lines are written.

    Raises:
        InputError: if no query gets a group, or more than a share ``max_unparsed`` of the generated answers had to be
            repaired.
    """
    verdicts = [verdict_of(parse_group(str(output.path), json.loads(line))) for line in output.done_lines]
    done = {verdict.query_id for verdict in verdicts}
    answers = malformed = counted = 0
    with tqdm(total=len(candidates), desc="teach", unit="query", disable=None) as progress:
        for start in range(0, len(candidates), queries_per_round):
            block = candidates[start : start + queries_per_round]
            if any(entry.query_id not in done for entry in block):
                for group in in_order(teacher, block):
                    if group is not None and group.query_id not in done:
                        output.append([group_to_line(group)])
                        verdicts.append(verdict_of(group))
            answers += sum(verdict.num_answers for verdict in verdicts[counted:])
            malformed += sum(verdict.num_malformed for verdict in verdicts[counted:])
            counted = len(verdicts)
            if answers >= MIN_ANSWERS:
                refuse_malformed(answers, malformed, max_unparsed)
            progress.update(len(block))
    refuse_malformed(answers, malformed, max_unparsed)
    if not verdicts:
        raise InputError("no query has a candidate that is judged relevant; check that docids and query_ids agree")
    if len(verdicts) < len(candidates):
        logger.warning(
            "%d of %d queries have no candidate that is judged relevant and get no group",
            len(candidates) - len(verdicts),
            len(candidates),
        )
    return verdicts


def refuse_malformed(answers: int, malformed: int, max_unparsed: float) -> None:
    """Stop where the answers are not worth being taught; what was written before stays.

    Raises:
        InputError: if the share of generated answers that had to be repaired is above ``max_unparsed``.
    """
    if malformed > max_unparsed * answers:
        raise InputError(
            f"{malformed} of {answers} answers ({malformed / answers:.0%}) had to be repaired; --max_unparsed is "
            f"{max_unparsed:g}; see the answers with --record_path, take another model, prompt or --answer logits, or "
            "raise --max_unparsed to go on with these"
        )


def in_order(teacher: Teacher, block: Sequence[Candidates]) -> Iterator[Group | None]:
    """The groups of a block in its order, each as soon as all before it are there."""
    waiting: dict[int, Group | None] = {}
    place = 0
    for index, group in teacher.teach(block):
        waiting[index] = group
        while place in waiting:
            yield waiting.pop(place)
            place += 1


def verdict_of(group: Group) -> Verdict:
    """The docids best first, the permutation, and how many answers it took."""
    docids = [group.passages[position].docid for position in group.permutation]
    answers, malformed = (int(str((group.teacher or {}).get(count, 0))) for count in ("answers", "malformed"))
    return Verdict(group.query_id, docids, group.permutation, answers, malformed)


def write_side_files(args: TeachArguments, verdicts: Sequence[Verdict]) -> None:
    """The teacher's own run and InstructDistill's list, where they are asked for."""
    if args.run_path is not None:
        run = {
            verdict.query_id: {docid: float(-place) for place, docid in enumerate(verdict.docids)}
            for verdict in verdicts
        }
        write_run(args.run_path, run, "trec", args.teacher, overwrite=True)
    if args.permutation_path is not None:
        text = format_permutations(verdict.permutation for verdict in verdicts)
        write_whole(args.permutation_path, text, overwrite=True)


def print_report(report: Mapping[str, float]) -> None:
    """One figure a line."""
    width = max(len(name) for name in report)
    for name, value in report.items():
        print(f"{name.ljust(width)}  {value:.4g}" if isinstance(value, float) else f"{name.ljust(width)}  {value}")


if __name__ == "__main__":
    run_main(main)

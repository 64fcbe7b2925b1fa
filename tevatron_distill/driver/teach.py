"""Let a teacher order candidates, which makes groups: ``python -m tevatron_distill.driver.teach --help``."""

from __future__ import annotations

import inspect
import logging
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tevatron_distill.arguments import parse_arguments, token_budget
from tevatron_distill.arguments.data import DatasetArguments
from tevatron_distill.arguments.share import ShareArguments
from tevatron_distill.arguments.teach import ANSWERS, TeachArguments
from tevatron_distill.driver.blockwise import Block, Job, cut_blocks
from tevatron_distill.driver.candidates import read_candidates
from tevatron_distill.driver.common import as_mapping, run_main
from tevatron_distill.driver.planning import plan_of
from tevatron_distill.engines import ENGINES, WHO_ANSWERS, AnswerCache
from tevatron_distill.engines.identity import model_identity
from tevatron_distill.formats import CandidateStream
from tevatron_distill.formats.blocks import BlockOutput
from tevatron_distill.formats.disk import corrupt
from tevatron_distill.formats.groups import group_to_line, parse_group
from tevatron_distill.formats.instructdistill import format_permutations
from tevatron_distill.formats.jsonl import expand_pattern, parse_json
from tevatron_distill.formats.names import on_disk
from tevatron_distill.formats.output import refuse_existing, write_whole
from tevatron_distill.formats.provenance import count_of
from tevatron_distill.formats.runs import format_run_lines, read_run
from tevatron_distill.prompts import PointPrompt, TeacherPrompt
from tevatron_distill.schema import Candidates, Group, InputError
from tevatron_distill.sharing import Processes
from tevatron_distill.sorting import SORTS
from tevatron_distill.teachers import TEACHERS, AskingTeacher, FromRun, SelfConsistency, Teacher

logger = logging.getLogger(__name__)

MIN_ANSWERS = 50  # before the share of malformed ones says something


def main(argv: Sequence[str] | None = None) -> None:
    """Ask the teacher about every query and append its groups as they finish."""
    processes = Processes.launched()
    data_args, args, share_args = parse_arguments(argv, DatasetArguments, TeachArguments, ShareArguments, prog="teach")
    if args.plan:
        print_report(plan_of(args, planned_prompt(args), read_candidates(data_args, args.depth)))
        return
    check_side_files(args, share_args, processes)
    logs = expand_pattern(args.recorded_path) if args.recorded_path else []
    paths = (data_args.dataset_path, *on_disk([args.qrels_path]), args.prior_run_path, *(args.merge_paths or ()), *logs)
    with BlockOutput(
        args.output_path,
        as_mapping(data_args, args) | weights_of(args),
        [path for path in paths if path is not None],
        args.overwrite_output_dir,
        processes=processes,
        num_shards=share_args.num_shards,
        shard_index=share_args.shard_index,
    ) as output:
        candidates = read_candidates(data_args, args.depth)
        report = teach_all(args, candidates, share_args, output)
        if output.is_whole:
            report = {**report, **summarise(args, output, candidates.num_queries)}
            output.add_report(report)
    if processes.is_first:
        print_report(report)


def weights_of(args: TeachArguments) -> dict[str, str]:
    """The content of a local model's folder, which the groups depend on as on the flags."""
    folder = args.model_name_or_path
    return {"weights": model_identity(folder, None)} if folder and Path(folder).is_dir() else {}


def check_side_files(args: TeachArguments, share_args: ShareArguments, processes: Processes) -> None:
    """Refuse to write over finished files; those that an unfinished run left are its own.

    Raises:
        InputError: if one exists without ``--overwrite_output_dir``, or is asked for by a shard.
    """
    if share_args.num_shards > 1 and (args.run_path or args.permutation_path):
        raise InputError(
            "--run_path and --permutation_path need all queries, and a shard has some; leave them out, and when all "
            "shards are done give the command without --num_shards and --shard_index, which merges them, with them"
        )
    if not processes.is_first:
        return
    unfinished = any(Path(f"{args.output_path}.{kind}").exists() for kind in ("partial", "parts"))
    for path in (args.run_path, args.permutation_path):
        if path is not None:
            refuse_existing(path, args.overwrite_output_dir or unfinished)


class Teaching:
    """Makes the groups of blocks of queries, as lines.

    Args:
        teacher: gives verdicts.
        stack: what must be closed with it.

    Attributes:
        num_answers: generated answers so far,
        num_malformed: and how many of them had to be repaired.
    """

    def __init__(self, teacher: Teacher, stack: ExitStack) -> None:
        self._teacher = teacher
        self.close = stack.close
        self.num_answers = 0
        self.num_malformed = 0

    @classmethod
    def load(cls, args: TeachArguments, candidates: Iterable[Candidates], name: str) -> Teaching:
        """Build the teacher and let it see all queries.

        Args:
            args: the flags.
            candidates: all queries; gone through more than once.
            name: put into the names of files that processes cannot share; empty for one process.
        """
        with ExitStack() as stack:
            teacher = build_teacher(args, stack, name)
            teacher.prepare(candidates)
            return cls(teacher, stack.pop_all())

    def __call__(self, block: Block) -> Iterator[list[str]]:
        for group in in_order(self._teacher, block):
            if group is not None:
                self._count(group)
            yield [] if group is None else [group_to_line(group)]

    def _count(self, group: Group) -> None:
        answers, malformed = answers_of(group)
        self.num_answers, self.num_malformed = self.num_answers + answers, self.num_malformed + malformed

    def report(self) -> Mapping[str, float]:
        """The teacher's figures."""
        return self._teacher.report()


def build_teacher(args: TeachArguments, stack: ExitStack, name: str = "") -> Teacher:
    """The teacher that the flags describe.

    Args:
        args: the flags.
        stack: takes what must be closed.
        name: put into the names of its log, and of its cache where that is on another machine.
    """
    row = TEACHERS[args.teacher]
    if not row.sorts:
        made: Teacher = row.make(**keywords_of(row.make, args))
        return made
    make_engine, make_sort = ENGINES[args.engine], SORTS[args.sort or ""]
    cache_path = Path(args.cache_path or Path(args.output_path).with_name("answer_cache.sqlite"))
    if "@" in name:
        cache_path = with_name(cache_path, name.partition("@")[2])
    record_path = with_name(Path(args.record_path), name) if args.record_path and name else args.record_path
    engine = make_engine(**keywords_of(make_engine, args))
    teacher = AskingTeacher(
        row.make(chosen_prompt(args, engine.answers)),
        engine,
        partial(make_sort, **keywords_of(make_sort, args)),
        args.sort or "",
        stack.enter_context(AnswerCache(cache_path, record_path)),
        question_size=args.question_size,
        sort_depth=args.sort_depth,
    )
    if args.prior_run_path is not None:
        return FromRun(teacher, read_run(args.prior_run_path))
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


def planned_prompt(args: TeachArguments) -> TeacherPrompt | None:
    """The prompt of a run that is only planned, for which no engine is made; None where nothing is asked."""
    kinds = {kind for kind, engines in WHO_ANSWERS.items() if args.engine in engines}
    return chosen_prompt(args, kinds) if TEACHERS[args.teacher].sorts else None


def keywords_of(make: Callable[..., Any], args: TeachArguments) -> dict[str, Any]:
    """The flags that ``make`` takes; a flag and its keyword have one spelling."""
    flags = {**as_mapping(args), "batch_tokens": token_budget(args.batch_tokens)}
    return {name: flags[name] for name in inspect.signature(make).parameters if name in flags}


def with_name(path: Path, name: str) -> Path:
    """A path with a name in front of its ending.

    >>> with_name(Path("log.jsonl"), "3-of-8").name
    'log-3-of-8.jsonl'
    """
    return path.with_name(f"{path.stem}-{name}{path.suffix}")


def name_of_process(share_args: ShareArguments, output: BlockOutput) -> str:
    """What tells the files of this process from those of others; with the machine where there may be several.

    A cache is shared by the processes of one machine, for SQLite's locks do not hold across machines.
    """
    share, host = output.share, socket.gethostname()
    if share_args.num_shards > 1 or not output.processes.on_one_machine:
        return f"{share.index}-of-{share.count}@{host}"
    return f"{share.index}-of-{share.count}" if share.count > 1 else ""


def teach_all(
    args: TeachArguments, candidates: CandidateStream, share_args: ShareArguments, output: BlockOutput
) -> dict[str, Any]:
    """Append the groups of all queries, in the order of the input, block by block.

    Blocks are formed from the input alone. One that an interruption has cut is taught again as a whole, mostly from
    the answer cache, and only its missing lines are written.

    Returns:
        What this process has done; with the figures of all where it merges what they have made.

    Raises:
        InputError: if more than a share ``--max_unparsed`` of the generated answers had to be repaired.
    """
    began = time.monotonic()
    left = [0, 0]  # answers and malformed ones of the lines that an interrupted run has left

    def name_of(place: str, line: str) -> str:
        group = group_of(place, line)
        left[:] = [old + new for old, new in zip(left, answers_of(group), strict=True)]
        return group.query_id

    def check(work: Any) -> None:
        answers, malformed = work.num_answers + left[0], work.num_malformed + left[1]
        if answers >= MIN_ANSWERS:
            refuse_malformed(answers, malformed, args.max_unparsed)

    job = Job(
        partial(Teaching.load, args, candidates, name_of_process(share_args, output)),
        partial(cut_blocks, candidates, queries=args.queries_per_round),
        lambda block: ({entry.query_id for entry in block}, len(block)),
        name_of,
        candidates.num_queries,
        exact=False,
    )
    job.run(output, share_args, check)
    seconds = time.monotonic() - began
    counts = {"queries": output.num_done_lines + job.lines, "resumed": output.num_done_lines}
    speeds = {"seconds_per_query": seconds / max(1, job.lines)}
    if "tokens" in job.report:
        speeds = {"tokens_per_second": job.report["tokens"] / seconds, **speeds}
    return output.finish({**counts, **job.report, **speeds})


def group_of(place: str, line: str) -> Group:
    """The group of a line that a run of ours has written.

    Raises:
        InputError: if it is corrupt.
    """
    try:
        row = parse_json(line)
        if isinstance(row, dict):
            return parse_group(place, row)
    except ValueError as error:  # of JSON, or an InputError
        raise corrupt(place, f"no group ({error})") from error
    raise corrupt(place, f"no group, but {line[:40]!r}")


def answers_of(group: Group) -> tuple[int, int]:
    """How many answers were generated for a group, and how many of them had to be repaired."""
    about = group.teacher or {}
    return count_of(about.get("answers")), count_of(about.get("malformed"))


def summarise(args: TeachArguments, output: BlockOutput, num_queries: int) -> dict[str, int]:
    """Go through the finished groups once more: count them, and write the files beside them.

    Returns:
        The number of groups.

    Raises:
        InputError: if no query has a group, or more than a share ``--max_unparsed`` of the generated answers had to be
            repaired.
    """
    answers = malformed = groups = 0
    for place, line in output.lines():
        more, bad = answers_of(group_of(place, line))
        answers, malformed, groups = answers + more, malformed + bad, groups + 1
    refuse_malformed(answers, malformed, args.max_unparsed)
    if not groups:
        raise InputError("no query has a candidate that is judged relevant; check that docids and query_ids agree")
    if groups < num_queries:
        logger.warning(
            "%d of %d queries have no candidate that is judged relevant and get no group",
            num_queries - groups,
            num_queries,
        )
    write_side_files(args, output)
    return {"queries": groups}


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


def write_side_files(args: TeachArguments, output: BlockOutput) -> None:
    """The teacher's own run and InstructDistill's list, where they are asked for."""
    if args.run_path is not None:
        groups = (group_of(place, line) for place, line in output.lines())
        write_whole(
            args.run_path, (line for group in groups for line in run_lines(group, args.teacher)), overwrite=True
        )
    if args.permutation_path is not None:
        permutations = (group_of(place, line).permutation for place, line in output.lines())
        write_whole(args.permutation_path, format_permutations(permutations), overwrite=True)


def run_lines(group: Group, teacher: str) -> list[str]:
    """A group's lines in the teacher's TREC run."""
    ranked = [(group.passages[position].docid, float(-place)) for place, position in enumerate(group.permutation)]
    return format_run_lines(group.query_id, ranked, "trec", teacher)


def print_report(report: Mapping[str, Any]) -> None:
    """One figure a line; those of several processes one by one."""
    figures = {name: value for name, value in report.items() if name != "processes"}
    for number, one in enumerate(report.get("processes", ())):
        figures |= {f"{name}[{number}]": value for name, value in one.items()}
    width = max(len(name) for name in figures)
    for name, value in figures.items():
        print(f"{name.ljust(width)}  {value:.4g}" if isinstance(value, float) else f"{name.ljust(width)}  {value}")


if __name__ == "__main__":
    run_main(main)

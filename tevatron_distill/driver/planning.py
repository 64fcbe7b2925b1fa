"""``--plan``: what a teacher would ask and what it would take, before anything is asked."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from tevatron_distill.arguments.teach import TeachArguments
from tevatron_distill.prompts import TeacherPrompt
from tevatron_distill.schema import Candidates, InputError
from tevatron_distill.sorting import question_bounds
from tevatron_distill.teachers import TEACHERS
from tevatron_distill.teachers.planning import plan_questions


def plan_of(args: TeachArguments, prompt: TeacherPrompt | None, candidates: Iterable[Candidates]) -> dict[str, float]:
    """Questions, prompts and tokens of a run, with its hours and price where the flags allow to say them.

    What the answer cache knows is free and not taken off. Where answers decide how many questions there are, tokens,
    hours and price are those of the most.

    Args:
        args: the flags.
        prompt: what would be asked; None for a teacher that asks nothing.
        candidates: the queries.

    Raises:
        InputError: if the teacher asks nothing.
    """
    row = TEACHERS[args.teacher]
    if not row.sorts or prompt is None:
        raise InputError(f"--plan is for teachers that ask an engine; --teacher {args.teacher} does not; leave it out")
    flags = ("num_passes", "window_size", "step_size", "top_k", "num_child", "max_questions")
    sorts = {flag: getattr(args, flag) for flag in flags}
    plan = plan_questions(
        row.make(prompt),
        candidates,
        partial(question_bounds, args.sort or "", **sorts),
        question_size=args.question_size,
        sort_depth=args.sort_depth,
        num_shuffles=args.num_shuffles,
        same_when_shuffled=args.sort == "allpair",
        thinking_tokens=args.thinking_tokens,
    )
    if args.tokens_per_second is not None:
        plan["hours"] = (plan["input_tokens"] + plan["output_tokens"]) / args.tokens_per_second / 3600
    prices = args.price_per_million_input, args.price_per_million_output
    if any(prices):
        plan["cost"] = (plan["input_tokens"] * prices[0] + plan["output_tokens"] * prices[1]) / 1e6
    return plan

"""Export a student to where it is used: ``python -m tevatron_distill.driver.export --help``."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tevatron_distill.arguments import parse_arguments
from tevatron_distill.arguments.export import ExportArguments
from tevatron_distill.driver.common import run_main
from tevatron_distill.export import CardOptions, export_checkpoint, export_student
from tevatron_distill.export.push import check_push, push
from tevatron_distill.export.results import read_results

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Export a student, or make a plain folder of a checkpoint."""
    [args] = parse_arguments(argv, ExportArguments, prog="export")
    if args.push_to_hub:
        check_push(args.hub_model_id)
    card = CardOptions(args.hub_model_id, tuple(map(read_results, args.results_path)), args.license)
    if args.checkpoint is None:
        export(args, args.model_name_or_path, card)
    elif args.format is None:
        plain(args, card)
    else:
        home = Path(args.output_dir).parent
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home, prefix=".plain-") as folder:
            export_checkpoint(args.checkpoint, folder)
            export(args, folder, card)
    if args.push_to_hub:
        url = push(args.output_dir, args.hub_model_id, args.hub_revision, args.hub_private_repo)
        logger.info("pushed to %s", url)


def export(args: ExportArguments, student: str, card: CardOptions) -> None:
    """Write a student in a format, and say by which libraries it was compared."""
    form = args.format or "hub"
    differences = export_student(
        student,
        args.output_dir,
        form,
        onnx_dtype=args.onnx_dtype,
        overwrite=args.overwrite_output_dir,
        origin=args.checkpoint,
        card=card,
    )
    found = ", ".join(f"{name} {difference:.2g}" for name, difference in differences.items())
    logger.info(
        "wrote %s; scores of a sample differ from the source's by: %s", args.output_dir, found or "(not compared)"
    )


def plain(args: ExportArguments, card: CardOptions) -> None:
    """Write a checkpoint as training leaves a student."""
    difference = export_checkpoint(args.checkpoint or "", args.output_dir, args.overwrite_output_dir, card)
    if difference is None:
        logger.info("wrote %s; the checkpoint holds parts alone, so there were no scores to compare", args.output_dir)
    else:
        logger.info("wrote %s; scores of a sample differ from the source's by %.2g", args.output_dir, difference)


if __name__ == "__main__":
    run_main(main)

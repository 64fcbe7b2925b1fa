"""Make a plain folder of a checkpoint or of an adapter: ``python -m tevatron_distill.driver.export --help``."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tevatron_distill.arguments import parse_arguments
from tevatron_distill.arguments.export import ExportArguments
from tevatron_distill.driver.common import run_main
from tevatron_distill.export import export_checkpoint, merge_adapter

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Make a plain folder of a checkpoint or of an adapter."""
    [args] = parse_arguments(argv, ExportArguments, prog="export")
    difference: float | None
    if args.merge:
        difference = merge_adapter(args.model_name_or_path, args.output_dir, args.overwrite_output_dir)
    else:
        difference = export_checkpoint(args.checkpoint, args.output_dir, args.overwrite_output_dir)
    if difference is None:
        logger.info("wrote %s; the checkpoint holds parts alone, so there were no scores to compare", args.output_dir)
    else:
        logger.info("wrote %s; scores of a sample differ from the source's by %.2g", args.output_dir, difference)


if __name__ == "__main__":
    run_main(main)

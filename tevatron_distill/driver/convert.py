"""Turn a run into TREC's, Tevatron's or MS MARCO's columns: ``python -m tevatron_distill.driver.convert --help``."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tevatron_distill.arguments import parse_arguments
from tevatron_distill.arguments.convert import ConvertArguments
from tevatron_distill.driver.common import as_mapping, run_main
from tevatron_distill.formats.output import refuse_existing, write_run_config
from tevatron_distill.formats.runs import read_run, write_run

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Read a run and write it again."""
    (args,) = parse_arguments(argv, ConvertArguments, prog="convert")
    refuse_existing(args.output, args.overwrite_output_dir)
    run = read_run(args.input)
    if args.remove_query:
        run = {
            query_id: {docid: score for docid, score in scores.items() if docid != query_id}
            for query_id, scores in run.items()
        }
    write_run(args.output, run, args.to, overwrite=args.overwrite_output_dir)
    write_run_config(args.output, as_mapping(args), [args.input])
    logger.info("wrote %d queries to %s", len(run), args.output)


if __name__ == "__main__":
    run_main(main)

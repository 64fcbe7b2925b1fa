"""Put the parts of a job array together: ``python -m tevatron_distill.driver.merge --help``."""

from __future__ import annotations

from collections.abc import Sequence

from tevatron_distill.arguments import parse_arguments
from tevatron_distill.arguments.merge import MergeArguments
from tevatron_distill.driver.common import run_main
from tevatron_distill.formats.blocks import merge_parts


def main(argv: Sequence[str] | None = None) -> None:
    """Merge what the shards of rerank or teach have written; missing or overlapping shards are refused."""
    (args,) = parse_arguments(argv, MergeArguments, prog="merge")
    report = merge_parts(args.output_path, args.parts_path, args.overwrite_output_dir)
    counts = ", ".join(f"{name} {value}" for name, value in report.items() if name != "processes")
    print(f"{args.output_path}: {counts}")


if __name__ == "__main__":
    run_main(main)

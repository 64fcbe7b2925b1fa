"""The candidates that rerank and teach read."""

from __future__ import annotations

import logging

from tevatron_distill.arguments.data import DatasetArguments
from tevatron_distill.formats import CandidateStream

logger = logging.getLogger(__name__)


def read_candidates(data_args: DatasetArguments, depth: int | None) -> CandidateStream:
    """The candidates of this shard's queries, cut at the depth (None for all)."""
    candidates = CandidateStream(
        data_args.dataset_path,
        dataset_name=data_args.dataset_name,
        dataset_config=data_args.dataset_config,
        dataset_split=data_args.dataset_split,
        dataset_cache_dir=data_args.dataset_cache_dir,
        options=data_args.reading(data_args.max_predict_data_size),
        depth=depth,
        shard=(data_args.dataset_shard_index, data_args.dataset_number_of_shards),
    )
    logger.info("read the candidates of %d queries", candidates.num_queries)
    return candidates

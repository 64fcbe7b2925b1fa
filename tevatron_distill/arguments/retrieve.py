"""Flags of ``driver.retrieve``."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields

from tevatron_distill.arguments import check_choice, token_budget
from tevatron_distill.arguments.screens import first
from tevatron_distill.retrieval import RETRIEVERS
from tevatron_distill.retrieval.bm25 import LANGUAGES, STEMMERS
from tevatron_distill.retrieval.encoder_settings import DTYPES, FAISS_INDEXES, POOLINGS
from tevatron_distill.retrieval.lucene import ANALYZERS
from tevatron_distill.schema import InputError


@dataclass
class RetrieveArguments:
    """Where texts come from, how candidates are found, and where they go."""

    output_path: str = field(
        metadata={
            "help": first("out", "the run (TREC); with --retrieval_results the joined rows that the next steps read")
        }
    )
    corpus_path: str | None = field(
        default=None,
        metadata={"help": first("in", "collection: a BEIR folder, .jsonl, .tsv, a dataset's name, or irds:ID")},
    )
    corpus_data_name: str | None = field(default=None, metadata={"help": "Tevatron's name for --corpus_path"})
    corpus_data_config: str | None = field(default=None, metadata={"help": "config of a collection loaded by name"})
    corpus_data_split: str | None = field(
        default=None, metadata={"help": "split of a collection loaded by name; its only one, or train, where left out"}
    )
    queries_path: str | None = field(
        default=None,
        metadata={"help": first("in", "queries: a BEIR folder, .jsonl, .tsv, a dataset's name, or irds:ID")},
    )
    query_data_name: str | None = field(default=None, metadata={"help": "Tevatron's name for --queries_path"})
    query_data_config: str | None = field(default=None, metadata={"help": "config of queries loaded by name"})
    query_data_split: str | None = field(
        default=None,
        metadata={"help": "split of queries loaded by name; of a BEIR folder, the queries that qrels/SPLIT.tsv judges"},
    )
    retrieval_results: str | None = field(
        default=None,
        metadata={"help": first("in", "join this run (3, 4 or 6 columns) with texts instead of searching")},
    )
    rerank_input_path: str | None = field(
        default=None,
        metadata={"help": first("out", "also write the run joined with texts, as rows that the next steps read")},
    )
    depth: int = field(default=100, metadata={"help": first("how", "candidates a query, at most")})
    retriever: str = field(default="bm25", metadata={"help": first("how", "who searches"), "choices": list(RETRIEVERS)})
    # bm25 and lucene
    language: str = field(
        default="english",
        metadata={"help": "whose stopwords, stems and letters", "choices": sorted({*LANGUAGES, *ANALYZERS})},
    )
    stemmer: str = field(
        default="auto",
        metadata={"help": "Snowball algorithm; auto for the language's own, or none", "choices": list(STEMMERS)},
    )
    k1: float = field(default=0.9, metadata={"help": "BM25: how fast a repeated word stops counting"})
    b: float = field(default=0.4, metadata={"help": "BM25: how much long passages are held back, 0..1"})
    # lucene
    index: str | None = field(
        default=None,
        metadata={
            "help": first(
                "how",
                "lucene: a folder with an index, or the name of one of pyserini's prebuilt ones; dense: a folder of "
                "vectors; a folder that is missing is filled with an index of the collection; left out, that index is "
                "kept beside the output",
            )
        },
    )
    threads: int = field(default=0, metadata={"help": "lucene: threads that search and index; 0 for one a core"})
    rm3: bool = field(
        default=False, metadata={"help": first("how", "lucene: add words of the best passages to the query (RM3)")}
    )
    fb_terms: int = field(default=10, metadata={"help": "RM3: words that are added"})
    fb_docs: int = field(default=10, metadata={"help": "RM3: passages from which they are taken"})
    original_query_weight: float = field(default=0.5, metadata={"help": "RM3: share of the query's own words, 0..1"})
    impact_encoder: str | None = field(
        default=None,
        metadata={
            "help": "lucene: what weighs the query's words for an --index of impacts: a SPLADE, uniCOIL or SLIM model, "
            "a .jsonl of encoded queries, or words (their number)"
        },
    )
    # dense
    encoder_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": first(
                "how",
                "dense: what makes vectors: a folder or name of sentence-transformers, an encoder, a decoder, or a "
                "LoRA adapter of one",
            )
        },
    )
    tokenizer_name: str | None = field(
        default=None, metadata={"help": "dense: folder of the tokenizer, if it is another"}
    )
    lora_name_or_path: str | None = field(
        default=None, metadata={"help": "dense: adapter to put on --encoder_name_or_path"}
    )
    cache_dir: str | None = field(default=None, metadata={"help": "dense: where downloads are kept"})
    trust_remote_code: bool = field(
        default=False, metadata={"help": "dense: run code that the encoder's folder brings"}
    )
    dtype: str | None = field(
        default=None,
        metadata={
            "choices": list(DTYPES),
            "help": "dense: number format of the weights; auto: the folder's own (default: float32 on a CPU, auto on a "
            "GPU)",
        },
    )
    attn_implementation: str | None = field(
        default=None, metadata={"help": "dense: attention, as in transformers: eager, sdpa, flash_attention_2, …"}
    )
    pooling: str | None = field(
        default=None,
        metadata={
            "choices": list(POOLINGS),
            "help": "dense: the first token's vector, the mean of all, or the last one's (default: as the folder says, "
            "else cls, and last for a decoder)",
        },
    )
    normalize: bool | None = field(
        default=None,
        metadata={
            "nargs": "?",
            "const": True,
            "help": "dense: vectors of unit length, so that scores are cosines (default: as the folder says, else no)",
        },
    )
    query_prefix: str | None = field(
        default=None,
        metadata={
            "help": "dense: put before a query as it stands, without a space between (default: the folder's prompt)"
        },
    )
    passage_prefix: str | None = field(
        default=None,
        metadata={"help": "dense: put before a passage's title and text, likewise (default: the folder's prompt)"},
    )
    query_max_len: int | None = field(
        default=None,
        metadata={
            "help": "dense: tokens of a query, prefix included (default: as the folder says, else Tevatron's 32)"
        },
    )
    passage_max_len: int | None = field(
        default=None,
        metadata={
            "help": "dense: tokens of a passage, prefix included (default: as the folder says, else Tevatron's 128)"
        },
    )
    append_eos_token: bool = field(
        default=False, metadata={"help": "dense: each text ends with the end-of-sequence token (RepLLaMA)"}
    )
    batch_tokens: str = field(
        default="auto",
        metadata={"help": "dense: tokens of a batch, padding included: a number, or auto: what is fast on the device"},
    )
    faiss_index: str | None = field(
        default=None,
        metadata={
            "choices": list(FAISS_INDEXES),
            "help": first(
                "how",
                "dense: search by an index of faiss, kept with the vectors: all of them, a graph of neighbours, or "
                "lists of codes (default: exact search, without faiss)",
            ),
        },
    )
    hnsw_m: int = field(default=32, metadata={"help": "hnsw: neighbours of a node"})
    hnsw_ef_construction: int = field(
        default=200, metadata={"help": "hnsw: nodes looked at for each one that is added"}
    )
    hnsw_ef_search: int = field(
        default=128, metadata={"help": "hnsw: nodes looked at for each query, at least the depth"}
    )
    ivf_nlist: int | None = field(
        default=None, metadata={"help": "ivfpq: lists (default: four times the root of the number of passages)"}
    )
    ivf_nprobe: int = field(default=32, metadata={"help": "ivfpq: lists looked at for each query"})
    pq_m: int | None = field(
        default=None, metadata={"help": "ivfpq: bytes of a vector (default: an eighth of its length)"}
    )
    # hybrid
    run_paths: list[str] = field(
        default_factory=list,
        metadata={"help": first("how", "hybrid: the runs that are fused, such as other calls have written")},
    )
    rrf_k: int = field(
        default=60,
        metadata={"help": "hybrid: a passage gets 1 / (rrf_k + rank) from each run (reciprocal rank fusion)"},
    )
    overwrite_output_dir: bool = field(default=False, metadata={"help": first("out", "replace output that exists")})

    def __post_init__(self) -> None:
        check_choice("retriever", self.retriever, list(RETRIEVERS))
        check_choice("language", self.language, sorted({*LANGUAGES, *ANALYZERS}))
        check_choice("stemmer", self.stemmer, STEMMERS)
        for name, choices in (("dtype", DTYPES), ("pooling", POOLINGS), ("faiss_index", FAISS_INDEXES)):
            if getattr(self, name) is not None:
                check_choice(name, getattr(self, name), choices)
        token_budget(self.batch_tokens)
        for name in ("depth", "query_max_len", "passage_max_len"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"--{name} must be at least 1; got {getattr(self, name)}")
        self._check_settings()
        for name in ("fb_terms", "fb_docs", "original_query_weight"):
            if not self.rm3 and getattr(self, name) != getattr(RetrieveArguments, name):
                raise InputError(f"--{name} is for --rm3; got it without")
        if self.retrieval_results is not None and self.rerank_input_path is not None:
            raise InputError("with --retrieval_results the joined rows go to --output_path; drop --rerank_input_path")
        self.corpus_source = _at_most_one("corpus_path", self.corpus_path, "corpus_data_name", self.corpus_data_name)
        self.queries_source = _at_most_one("queries_path", self.queries_path, "query_data_name", self.query_data_name)
        if self.rerank_input_path is not None and self.queries_source is None:
            raise InputError("--rerank_input_path needs the queries' texts: give --queries_path")
        joins = self.retrieval_results is not None
        if self.queries_source is None and (joins or not RETRIEVERS[self.retriever].has_queries):
            raise InputError("one of --queries_path and --query_data_name is needed; got neither")
        if self.corpus_source is None and joins:
            raise InputError("one of --corpus_path and --corpus_data_name is needed; got neither")

    def settings(self) -> dict[str, object]:
        """The flags that the retriever takes, by name."""
        return {flag: getattr(self, flag) for flag in RETRIEVERS[self.retriever].settings}

    def _check_settings(self) -> None:
        """Refuse a flag that only other retrievers take: it would change nothing."""
        defaults = {flag.name: flag for flag in fields(self)}
        own = RETRIEVERS[self.retriever].settings
        for name in {name for row in RETRIEVERS.values() for name in row.settings if name not in own}:
            default = defaults[name]
            value = default.default if default.default_factory is MISSING else default.default_factory()
            if getattr(self, name) != value:
                takers = " or ".join(other for other, row in RETRIEVERS.items() if name in row.settings)
                raise InputError(f"--{name} is for --retriever {takers}; got it with {self.retriever}")


def _at_most_one(first: str, first_value: str | None, second: str, second_value: str | None) -> str | None:
    if first_value is not None and second_value is not None:
        raise InputError(f"one of --{first} and --{second} is needed; got both")
    return second_value if first_value is None else first_value

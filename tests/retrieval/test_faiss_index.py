"""Indexes of faiss: ``pytest -m retrieval``."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tevatron_distill.driver.retrieve import main
from tevatron_distill.extras import is_installed, pip_command
from tevatron_distill.formats.runs import read_run
from tevatron_distill.retrieval import faiss_index as module
from tevatron_distill.retrieval.encoder_settings import FAISS_INDEXES
from tevatron_distill.retrieval.faiss_index import FaissIndex, FaissSettings
from tevatron_distill.retrieval.nearest import nearest, scored
from tevatron_distill.schema import InputError

pytestmark = [
    pytest.mark.retrieval,
    pytest.mark.skipif(not is_installed("faiss"), reason=f"faiss is not installed: {pip_command('faiss')}"),
]
DEPTH = 10


@pytest.fixture(scope="module")
def collection():
    """Vectors of unit length around 100 topics, as encoders make them, and queries near some of them."""
    random = np.random.default_rng(0)
    topics = random.standard_normal((100, 32))
    made = topics[random.integers(0, 100, 4000)] + 0.7 * random.standard_normal((4000, 32))
    queries = topics[random.integers(0, 100, 50)] + 0.7 * random.standard_normal((50, 32))
    unit = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in (made, queries)]
    return unit[0].astype(np.float16), unit[1].astype(np.float32)


def best(vectors, queries, positions):
    return [scored(vectors, query, places, DEPTH) for query, places in zip(queries, positions, strict=True)]


def recall(found, exact):
    """The share of the exact best that was found."""
    shared = [len({p for p, _ in one} & {p for p, _ in other}) for one, other in zip(found, exact, strict=True)]
    return sum(shared) / (DEPTH * len(exact))


@pytest.mark.parametrize(("kind", "least"), [("flat", 1.0), ("hnsw", 0.97), ("ivfpq", 0.9)])
def test_an_index_finds_what_exact_search_finds(kind, least, collection, tmp_path):
    vectors, queries = collection
    exact = best(vectors, queries, nearest(vectors, queries, DEPTH))
    built = FaissIndex(tmp_path, vectors, FaissSettings(kind))
    found = best(vectors, queries, built.nearest(queries, DEPTH))
    assert recall(found, exact) >= least
    [saved] = tmp_path.glob("*.faiss")
    before = saved.stat().st_mtime_ns
    again = best(vectors, queries, FaissIndex(tmp_path, vectors, FaissSettings(kind)).nearest(queries, DEPTH))
    assert again == found
    assert saved.stat().st_mtime_ns == before
    if kind == "flat":
        assert found == exact


def test_what_is_looked_at_moves_recall(collection, tmp_path):
    vectors, queries = collection
    exact = best(vectors, queries, nearest(vectors, queries, DEPTH))
    recalls = [
        recall(best(vectors, queries, FaissIndex(tmp_path, vectors, settings).nearest(queries, DEPTH)), exact)
        for settings in (FaissSettings("ivfpq", ivf_nprobe=1), FaissSettings("ivfpq", ivf_nprobe=62))
    ]
    assert recalls[0] < recalls[1]
    assert len(list(tmp_path.glob("*.faiss"))) == 1


@pytest.mark.parametrize(
    ("settings", "recipe", "name"),
    [
        (FaissSettings("flat"), "Flat", "flat.faiss"),
        (FaissSettings("hnsw", hnsw_m=16), "HNSW16,Flat", "hnsw16-flat-200.faiss"),
        (FaissSettings("ivfpq"), "IVF100,PQ48x8", "ivf100-pq48x8.faiss"),
        (FaissSettings("ivfpq", ivf_nlist=7, pq_m=96), "IVF7,PQ96x8", "ivf7-pq96x8.faiss"),
    ],
)
def test_recipes_are_those_of_faiss_and_names_say_them(settings, recipe, name):
    num = 100 * 64
    assert settings.recipe(num, 384) == recipe
    assert settings.file_name(num, 384) == name


@pytest.mark.parametrize(("num", "lists"), [(64, 1), (640, 10), (10_000, 156), (1_000_000, 4 * 1000)])
def test_lists_are_four_times_the_root_where_there_are_passages_to_learn_from(num, lists):
    assert FaissSettings("ivfpq").num_lists(num) == lists


@pytest.mark.parametrize(("dimension", "codes"), [(384, 48), (768, 96), (100, 10), (7, 1), (4, 1)])
def test_codes_part_a_vector_evenly(dimension, codes):
    assert FaissSettings("ivfpq").num_codes(dimension) == codes


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FaissSettings("lsh"), "--faiss_index must be one of flat, hnsw, ivfpq; got 'lsh'"),
        (lambda: FaissSettings("hnsw", hnsw_m=1), "--hnsw_m must be at least 2"),
        (lambda: FaissSettings("ivfpq", ivf_nprobe=0), "--ivf_nprobe must be at least 1"),
        (lambda: FaissSettings("ivfpq", pq_m=5).num_codes(32), "--pq_m must part the 32 numbers of a vector evenly"),
    ],
)
def test_settings_out_of_range_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


def test_a_collection_too_small_for_codes_is_refused(collection, tmp_path):
    with pytest.raises(InputError, match=r"learns 256 codes and 3 lists .*; got 200; leave --faiss_index out"):
        FaissIndex(tmp_path, collection[0][:200], FaissSettings("ivfpq"))


def test_a_saved_index_of_something_else_is_refused(collection, tmp_path):
    vectors, _ = collection
    FaissIndex(tmp_path, vectors[:100], FaissSettings("flat"))
    with pytest.raises(InputError, match=r"flat\.faiss: must be of 4000 passages .*; got 100 and 32; delete it"):
        FaissIndex(tmp_path, vectors, FaissSettings("flat"))
    (tmp_path / "flat.faiss").write_bytes(b"spoilt")
    with pytest.raises(InputError, match=r"flat\.faiss: must be an index of faiss"):
        FaissIndex(tmp_path, vectors, FaissSettings("flat"))


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_a_gpu_is_used_where_faiss_has_one_but_for_graphs(kind, collection, tmp_path, monkeypatch):
    import faiss

    vectors, queries = collection
    moved = []

    def move(index, options):
        moved.append(options.useFloat16)
        return index

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "GpuMultipleClonerOptions", SimpleNamespace, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", move)
    index = FaissIndex(tmp_path, vectors, FaissSettings(kind))
    assert moved == ([False] if kind == "flat" else [])
    assert index.nearest(queries, module.MOST_ON_GPU).shape == (50, module.MOST_ON_GPU + module.SPARE)


@pytest.mark.parametrize("kind", [kind for kind in FAISS_INDEXES if kind != "ivfpq"])
def test_the_driver_keeps_indexes_with_the_vectors(kind, bert_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.tsv").write_text("".join(f"d{n}\t{'red ' * (n % 7)}cat {n}\n" for n in range(60)))
    (tmp_path / "queries.tsv").write_text("q1\tred cat\nq2\tdog\n")
    words = ["--corpus_path", "corpus.tsv", "--queries_path", "queries.tsv", "--retriever", "dense", "--index", "kept"]
    words += ["--encoder_name_or_path", str(bert_folder), "--pooling", "mean", "--depth", "5"]
    main([*words, "--output_path", "exact.trec"])
    main([*words, "--output_path", "found.trec", "--faiss_index", kind])
    main([*words, "--output_path", "again.trec", "--faiss_index", kind])
    assert read_run("found.trec") == read_run("exact.trec") == read_run("again.trec")
    assert len(list((tmp_path / "kept").glob("*.faiss"))) == 1

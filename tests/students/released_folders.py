"""Folders of the shapes that are published, tiny and random: their files, keys, special tokens and names of weights."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from conftest import SENTENCES, train_wordpiece
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

TEXTS = [
    *SENTENCES,
    "yes no Yes No true false Relevant: Document: Query: document: query: A: B: <Instruct>: <Query>: <Document>:",
    "[A] > [B] > [C] [1] > [2] > [3] passages identifiers assistant user system relevance search",
    "0 1 2 3 4 5 6 7 8 9",
    *(f"{letter} [{letter}]" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
]
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "initializer_range": 0.3,  # large, so that every word of a prompt moves a score
}
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + "
    "eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}"
    "\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token}}{% endif %}{% endfor %}"
)
QWEN = (
    "{%- for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{%- endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{%- endif %}"
)
QWEN_OF_ROLES = (
    '{%- set instruct = messages | selectattr("role", "eq", "system") | map(attribute="content") | first | '
    'default("Given a web search query, retrieve relevant passages that answer the query") %}<|im_start|>system\n'
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the "
    'answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n<Instruct>: {{ instruct }}\n<Query>: '
    '{{ messages | selectattr("role", "eq", "query") | map(attribute="content") | first }}\n<Document>: '
    '{{ messages | selectattr("role", "eq", "document") | map(attribute="content") | first }}<|im_end|>\n'
    "<|im_start|>assistant\n<think>\n\n</think>\n\n"
)


def write_json(folder: Path, name: str, values: dict[str, Any]) -> None:
    (folder / name).write_text(json.dumps(values, indent=2), encoding="utf-8")


def change_config(folder: Path, drop: Iterable[str] = (), **values: Any) -> None:
    """Keys of ``config.json`` as the programs of then wrote them."""
    found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_json(folder, "config.json", {key: value for key, value in (found | values).items() if key not in drop})


def as_pickle(folder: Path, model: Any, *, drop: Iterable[str] = (), **extra: torch.Tensor) -> None:
    """Weights as ``pytorch_model.bin``, with what old programs saved besides."""
    state = {name: weight.clone() for name, weight in model.state_dict().items() if name not in drop}
    torch.save(state | extra, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink(missing_ok=True)


def save_tokenizer(folder: Path, tokenizer: Tokenizer, **config: Any) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder, "tokenizer_config.json", config)
    special = {key: config[key] for key in ("bos_token", "eos_token", "unk_token", "pad_token") if config.get(key)}
    write_json(folder, "special_tokens_map.json", special)


# ---- tokenizers


def llama_tokenizer(folder: Path, *, added: Iterable[str] = (), **config: Any) -> int:
    """Llama 2's and Mistral's: pieces with a space in front, bytes for the rest, ``<s>``, no pad token."""
    special = ["<unk>", "<s>", "</s>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    words = [pre_tokenizers.Split("▁", "merged_with_next"), pre_tokenizers.Digits(True)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(words)  # for training alone
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=650, special_tokens=tokens, initial_alphabet=[chr(n) for n in range(33, 127)]
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    values = json.loads(tokenizer.to_str())
    values["added_tokens"] = [token for token in values["added_tokens"] if token["content"] in special]
    values["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(values))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    tokenizer.add_special_tokens([AddedToken(token) for token in added])
    known: dict[str, Any] = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "legacy": False}
    known |= {"add_bos_token": True, "add_eos_token": False, "clean_up_tokenization_spaces": False, "pad_token": None}
    save_tokenizer(folder, tokenizer, tokenizer_class="LlamaTokenizer", padding_side="right", **known | config)
    return tokenizer.get_vocab_size()


def pieces() -> list[tuple[str, float]]:
    words = sorted({word for text in TEXTS for word in text.split()})
    return [("▁", -3.0), *((f"▁{word}", -2.0) for word in words), *((chr(n), -10.0) for n in range(33, 127))]


def t5_tokenizer(folder: Path, *, fast: bool) -> int:
    """T5's: ``tokenizer.json`` of then, or ``spiece.model`` alone; the sentinels stand at the vocabulary's end."""
    config: dict[str, Any] = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "extra_ids": 100}
    config |= {"model_max_length": 512, "tokenizer_class": "T5Tokenizer"}
    sentinels = [f"<extra_id_{number}>" for number in range(100)]
    config["additional_special_tokens"] = sentinels
    if not fast:
        ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
        answers = ["▁true", "▁false"]
        size = train_spiece(folder / "spiece.model", vocab_size=230, user_defined_symbols=answers, **ids)
        write_json(folder, "tokenizer_config.json", config)
        write_json(
            folder, "special_tokens_map.json", {key: config[key] for key in ("eos_token", "unk_token", "pad_token")}
        )
        return size + 100
    known = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces(), *((name, 0.0) for name in sentinels[::-1])]
    tokenizer = Tokenizer(models.Unigram(known, unk_id=2))
    space = {"replacement": "▁", "prepend_scheme": "always"}
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**space)]
    )
    tokenizer.decoder = decoders.Metaspace(**space)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>", *sentinels])
    save_tokenizer(folder, tokenizer, **config)
    return len(known)


def train_spiece(path: Path, **keywords: Any) -> int:
    """A SentencePiece model."""
    import sentencepiece

    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXTS * 5),
            model_writer=file,
            hard_vocab_limit=False,
            character_coverage=1.0,
            minloglevel=2,
            **keywords,
        )
    return int(sentencepiece.SentencePieceProcessor(model_file=str(path)).get_piece_size())


def xlm_roberta_tokenizer(folder: Path, max_length: int) -> int:
    """XLM-R's: two ``</s>`` between the texts, ``<mask>`` at the vocabulary's end."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    known = [*((token, 0.0) for token in special), *pieces(), ("<mask>", 0.0)]
    tokenizer = Tokenizer(models.Unigram(known, unk_id=3))
    space = {"replacement": "▁", "prepend_scheme": "always"}
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**space)]
    )
    tokenizer.decoder = decoders.Metaspace(**space)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.add_special_tokens([*special, AddedToken("<mask>", lstrip=True)])
    config: dict[str, Any] = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    config |= {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>", "sp_model_kwargs": {}}
    config |= {"model_max_length": max_length, "clean_up_tokenization_spaces": True}
    save_tokenizer(folder, tokenizer, tokenizer_class="XLMRobertaTokenizer", **config)
    return len(known)


def qwen_tokenizer(folder: Path, chat_template: str, *, in_file: bool) -> int:
    """Qwen3's: bytes, no beginning of a sequence, pad and end apart, ``<think>`` added and not special."""
    words = Regex(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        [*TEXTS, *["yes\nno\n\nyes\n\nno"] * 9] * 3,
        trainers.BpeTrainer(vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens(["<think>", "</think>"])
    config: dict[str, Any] = {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    config |= {"add_prefix_space": False, "model_max_length": 131072, "unk_token": None, "errors": "replace"}
    if in_file:
        (folder / "chat_template.jinja").write_text(chat_template, encoding="utf-8")
    else:
        config["chat_template"] = chat_template
    save_tokenizer(folder, tokenizer, tokenizer_class="Qwen2Tokenizer", **config)
    return tokenizer.get_vocab_size()


def gemma_tokenizer(folder: Path) -> int:
    """Gemma's: no space in front, pad, end and beginning in this order."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=650, special_tokens=tokens, initial_alphabet=["\n", *(chr(n) for n in range(33, 127))]
    )
    tokenizer.train_from_iterator([*TEXTS, *["Yes", "No"] * 9] * 3, trainer)
    values = json.loads(tokenizer.to_str())
    values["added_tokens"] = [token for token in values["added_tokens"] if token["content"] in special]
    tokenizer = Tokenizer.from_str(json.dumps(values))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos>:1 $B:1", special_tokens=[("<bos>", 2)]
    )
    config: dict[str, Any] = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    config |= {"add_bos_token": True, "add_eos_token": False, "clean_up_tokenization_spaces": False}
    save_tokenizer(folder, tokenizer, tokenizer_class="GemmaTokenizer", **config)
    return tokenizer.get_vocab_size()


# ---- folders


def llama_base(folder: Path, vocab_size: int | None = None, config_class: Any = None, **values: Any) -> Any:
    """A plain Llama 2 or Mistral as it lies on the hub, in half precision's config and no pad token."""
    from transformers import LlamaConfig

    folder.mkdir(parents=True, exist_ok=True)
    vocab_size = vocab_size or llama_tokenizer(folder)
    torch.manual_seed(5)
    config = (config_class or LlamaConfig)(
        vocab_size=vocab_size,
        **SIZES,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
        **values,
    )
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    change_config(folder, ("pad_token_id",))
    return model


def rank_llama_adapter(folder: Path, *, first: bool) -> Path:
    """A RankLLaMA adapter beside its base.

    The first generation was saved by peft 0.4: a pickle, a head that the config does not name, no tokenizer. Later ones
    (Tevatron's present program) have both, and ``reranker_config.json``.
    """
    base = folder.with_name("Llama-2-7b-hf")
    model = llama_base(base)
    inverse = torch.arange(4.0)
    as_pickle(base, model, **{f"model.layers.{n}.self_attn.rotary_emb.inv_freq": inverse for n in (0, 1)})
    targets = ["q_proj", "v_proj", "o_proj", "down_proj", "up_proj", "gate_proj"]
    targets = targets if first else [*targets, "k_proj"]
    r, alpha = (32, 64) if first else (8, 64)
    torch.manual_seed(6)
    state = {"base_model.model.score.weight": torch.randn(1, 32)}
    for name, weight in model.state_dict().items():
        if name.split(".")[-2] in targets:
            rows, columns = weight.shape
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            state[f"{stem}.lora_A.weight"] = torch.randn(r, columns) * 0.05
            state[f"{stem}.lora_B.weight"] = torch.randn(rows, r) * 0.05
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "base_model_name_or_path": str(base),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "lora_alpha": alpha,
        "lora_dropout": 0.1,
        "modules_to_save": None if first else ["classifier", "score"],
        "peft_type": "LORA",
        "r": r,
        "revision": None,
        "target_modules": targets,
        "task_type": "SEQ_CLS",
    }
    write_json(folder, "adapter_config.json", config)
    if first:
        torch.save(state, folder / "adapter_model.bin")
        return folder
    save_file(state, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    llama_tokenizer(folder, pad_token="<unk>")
    settings = {"reranker_model_type": "sequence_classification", "reranker_pooling": "last"}
    write_json(folder, "reranker_config.json", {**settings, "attn_implementation": "flash_attention_2"})
    return folder


def rank_llama_first(folder: Path) -> Path:
    return rank_llama_adapter(folder, first=True)


def rank_llama_later(folder: Path) -> Path:
    return rank_llama_adapter(folder, first=False)


def rank_llama_merged(folder: Path) -> Path:
    """An adapter of the first generation merged into its base: a sequence classifier of one label."""
    from transformers import LlamaConfig

    folder.mkdir(parents=True, exist_ok=True)
    size = llama_tokenizer(folder)
    torch.manual_seed(7)
    config = LlamaConfig(vocab_size=size, **SIZES, num_key_value_heads=2, num_labels=1, pad_token_id=0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    change_config(folder, id2label={"0": "LABEL_0"}, label2id={"LABEL_0": 0})
    return folder


def rank_llama_2(folder: Path) -> Path:
    """InstructDistill's LLaMA: the plain language model in one old pickle, beside a slow tokenizer's files."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1}
    size = train_spiece(folder / "tokenizer.model", vocab_size=600, model_type="bpe", byte_fallback=True, **ids)
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    config = {"add_bos_token": True, "add_eos_token": False, "legacy": False, "sp_model_kwargs": {}, "pad_token": None}
    write_json(folder, "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer", **special, **config})
    write_json(folder, "special_tokens_map.json", special)
    as_pickle(folder, llama_base(folder, size))
    return folder


def t5_folder(folder: Path, *, flan: bool, fast: bool) -> Path:
    """T5 as saved by transformers 4: tied with all its copies, or FLAN's with a head of its own."""
    from transformers import T5Config, T5ForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    size = t5_tokenizer(folder, fast=fast) + 28  # rounded up, as the published 32128
    torch.manual_seed(8)
    config = T5Config(
        vocab_size=size,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu" if flan else "relu",
        tie_word_embeddings=not flan,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    model = T5ForConditionalGeneration(config)
    if flan:
        model.lm_head.weight = torch.nn.Parameter(torch.randn(size, 32))
    model.save_pretrained(folder)
    drop = ("scale_decoder_outputs", *(() if flan else ("tie_word_embeddings", "feed_forward_proj")))
    change_config(folder, drop, architectures=["T5ForConditionalGeneration"], n_positions=512)
    if flan:
        change_config(folder, tie_word_embeddings=False, is_gated_act=True, dense_act_fn="gelu_new")
    state = {"decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": torch.randn(32, 4)}
    as_pickle(folder, model, **state)
    return folder


def rank_flan_t5(folder: Path) -> Path:
    return t5_folder(folder, flan=True, fast=True)


def mono_t5(folder: Path) -> Path:
    return t5_folder(folder, flan=False, fast=False)


def bge_reranker(folder: Path, positions: int, length: int, *, pickled: bool) -> Path:
    """XLM-R as a sequence classifier of one label; its positions begin behind the pad id."""
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    folder.mkdir(parents=True, exist_ok=True)
    size = xlm_roberta_tokenizer(folder, length)
    torch.manual_seed(9)
    config = XLMRobertaConfig(
        vocab_size=size,
        **SIZES,
        max_position_embeddings=positions,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        num_labels=1,
    )
    model = XLMRobertaForSequenceClassification(config)
    model.save_pretrained(folder)
    change_config(folder, _name_or_path="BAAI/bge-m3", id2label={"0": "LABEL_0"}, label2id={"LABEL_0": 0})
    if pickled:
        as_pickle(folder, model, **{"roberta.embeddings.position_ids": torch.arange(positions)[None]})
    return folder


def bge_reranker_base(folder: Path) -> Path:
    return bge_reranker(folder, 514, 512, pickled=True)


def bge_reranker_v2_m3(folder: Path) -> Path:
    return bge_reranker(folder, 8194, 8192, pickled=False)


def bge_gemma(folder: Path) -> Path:
    """Gemma with its tied head; the head is not saved."""
    from transformers import GemmaConfig

    folder.mkdir(parents=True, exist_ok=True)
    size = gemma_tokenizer(folder)
    torch.manual_seed(10)
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    config = GemmaConfig(vocab_size=size, **SIZES, **ids, num_key_value_heads=1, head_dim=8)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    change_config(folder, _name_or_path="google/gemma-2b")
    return folder


def mini_lm(folder: Path) -> Path:
    """BERT as a sequence classifier, with a vocabulary of one word a line and sentence-transformers' keys."""
    from transformers import BertConfig, BertForSequenceClassification

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = train_wordpiece(folder).get_vocab()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).unlink()
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    write_json(folder, "tokenizer_config.json", {"do_lower_case": True, "model_max_length": 512})
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")}
    write_json(folder, "special_tokens_map.json", special)
    torch.manual_seed(11)
    config = BertConfig(vocab_size=len(words), **SIZES, max_position_embeddings=512, num_labels=1)
    model = BertForSequenceClassification(config)
    model.save_pretrained(folder)
    identity = {"activation_fn": "torch.nn.modules.linear.Identity", "version": "4.1.0.dev0"}
    change_config(
        folder, sentence_transformers=identity, id2label={"0": "LABEL_0"}, label2id={"LABEL_0": 0}, use_cache=True
    )
    as_pickle(folder, model, **{"bert.embeddings.position_ids": torch.arange(512)[None]})
    return folder


def qwen3_base(folder: Path, template: str, *, in_file: bool) -> Any:
    from transformers import Qwen3Config

    folder.mkdir(parents=True, exist_ok=True)
    size = qwen_tokenizer(folder, template, in_file=in_file)
    torch.manual_seed(12)
    ids = {"bos_token_id": size - 5, "eos_token_id": size - 3}
    config = Qwen3Config(
        vocab_size=size + 5, **SIZES, **ids, num_key_value_heads=2, head_dim=8, tie_word_embeddings=True
    )
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    change_config(folder, ("pad_token_id",))
    return model


def qwen3_reranker(folder: Path) -> Path:
    """The first revision: a language model with Qwen3's common chat template."""
    qwen3_base(folder, QWEN, in_file=False)
    return folder


def qwen3_reranker_with_roles(folder: Path) -> Path:
    """The later revision: a chat template of the roles query and document, and sentence-transformers' files."""
    qwen3_base(folder, QWEN_OF_ROLES, in_file=True)
    module = "sentence_transformers.cross_encoder.modules"
    rows = [("0", "", "sentence_transformers.base.modules.transformer.Transformer")]
    rows.append(("1", "1_LogitScore", f"{module}.logit_score.LogitScore"))
    listed = [{"idx": int(name), "name": name, "path": path, "type": kind} for name, path, kind in rows]
    (folder / "modules.json").write_text(json.dumps(listed))
    write_json(folder, "config_sentence_transformers.json", {"model_type": "CrossEncoder"})
    return folder


def qwen3_reranker_classifier(folder: Path) -> Path:
    """A conversion: one label, whose row is the head's of yes less that of no."""
    from transformers import AutoTokenizer

    model = qwen3_base(folder, QWEN, in_file=False)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
    pad = tokenizer.pad_token_id
    made = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, pad_token_id=pad)
    with torch.no_grad():
        made.score.weight.copy_((model.lm_head.weight[yes] - model.lm_head.weight[no])[None])
    made.save_pretrained(folder)
    change_config(folder, id2label={"0": "LABEL_0"}, label2id={"LABEL_0": 0}, pad_token_id=pad)
    return folder


def mistral(folder: Path, template: str, **tokenizer: Any) -> Path:
    from transformers import MistralConfig

    folder.mkdir(parents=True, exist_ok=True)
    size = llama_tokenizer(folder, chat_template=template, **tokenizer)
    model = llama_base(folder, size, MistralConfig, sliding_window=None)
    return loud(folder, model)


def loud(folder: Path, model: Any) -> Path:
    """Make the tokens of answers likely, so that what is generated names passages."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    names = [*"0123456789", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "[", "]", "▁>", "▁["]
    known = tokenizer.get_vocab()
    with torch.no_grad():
        for name in names:
            if name in known:
                model.lm_head.weight[known[name]] *= 6
    model.save_pretrained(folder)
    change_config(folder, ("pad_token_id",))
    return folder


def rank_zephyr(folder: Path) -> Path:
    """Zephyr's tokenizer: the pad token ends sequences, and the template leaves ``<s>`` to the tokenizer."""
    return mistral(folder, ZEPHYR, pad_token="</s>", legacy=True, truncation_side="left", model_max_length=2048)


def first_mistral(folder: Path) -> Path:
    """Mistral-Instruct's tokenizer with a pad token added, and a template that takes no system turn."""
    return mistral(folder, MISTRAL, added=("[INST]", "[/INST]", "<pad>"), pad_token="<pad>")

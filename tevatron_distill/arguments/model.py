"""Flags for the student and for its token rows, shared by training and reranking."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from tevatron_distill.arguments import check_choice
from tevatron_distill.arguments.screens import first
from tevatron_distill.loading import DTYPES
from tevatron_distill.prompts import LIST_PROMPTS
from tevatron_distill.reranker.pair import AGGREGATIONS, INFERENCE_MODES
from tevatron_distill.schema import InputError
from tevatron_distill.students import STUDENTS, LoadOptions, LoraOptions
from tevatron_distill.students.colbert import CONVENTIONS
from tevatron_distill.students.listwise import DECODES
from tevatron_distill.students.loading import LORA_TARGET_MODULES
from tevatron_distill.students.yes_prompts import YES_PROMPTS

MODEL_TYPES = ("sequence_classification", "backbone")
POOLINGS = ("last", "cls")
PROMPTS = [*YES_PROMPTS, *LIST_PROMPTS]


@dataclass
class ModelArguments:
    """Which model, as what student; names and meaning as in Tevatron where it has them."""

    model_name_or_path: str = field(
        metadata={"help": first("student", "model or adapter: a folder, or a name on the hub")}
    )
    student: str | None = field(
        default=None,
        metadata={
            "choices": list(STUDENTS),
            "help": first(
                "student", "kind of student (default: as saved with the model, a released model's, else cross_encoder)"
            ),
        },
    )
    config_name: str | None = field(default=None, metadata={"help": "folder of the config, if it is another"})
    tokenizer_name: str | None = field(default=None, metadata={"help": "folder of the tokenizer, if it is another"})
    cache_dir: str | None = field(default=None, metadata={"help": "where downloads are kept"})
    reranker_model_type: str = field(
        default="sequence_classification",
        metadata={
            "choices": list(MODEL_TYPES),
            "help": "Tevatron's flag; `backbone` (a decoder with a linear head at its last token) is trained as the "
            "sequence classifier that it equals, and read from Tevatron's folders",
        },
    )
    reranker_pooling: str = field(
        default="last", metadata={"choices": list(POOLINGS), "help": "Tevatron's flag, for `backbone`: `last`"}
    )
    lora: bool = field(default=False, metadata={"help": first("student", "train a LoRA adapter", "train")})
    lora_name_or_path: str | None = field(default=None, metadata={"help": "adapter to put on --model_name_or_path"})
    use_quantization_config: bool = field(
        default=False,
        metadata={
            "help": "QLoRA: the model under a trained adapter is held in four bits (nf4, by bitsandbytes, on a GPU)"
        },
    )
    lora_r: int = field(default=8, metadata={"help": "rank of the adapter"})
    lora_alpha: int = field(default=64, metadata={"help": "scale of the adapter, over its rank"})
    lora_dropout: float = field(default=0.1, metadata={"help": "dropout before the adapter"})
    lora_target_modules: str = field(
        default=LORA_TARGET_MODULES,
        metadata={"help": "names of the adapted modules, by commas; all linear layers where none of them exists"},
    )
    num_hidden_layers: int | None = field(
        default=None,
        metadata={
            "help": first(
                "student",
                "layers that are left of the model, evenly spaced: a student that is as many times faster "
                "(default: all)",
                "train",
            )
        },
    )
    attn_implementation: str | None = field(
        default=None, metadata={"help": "attention, as in transformers: eager, sdpa, flash_attention_2, …"}
    )
    dtype: str | None = field(
        default=None,
        metadata={
            "choices": list(DTYPES),
            "help": first(
                "how",
                "number format of the weights; auto: the folder's own (default: float32; when reranking, "
                "--bf16 or --fp16 where given, else the folder's own on a GPU)",
                "rerank",
            ),
        },
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "run code that the model's folder brings"})
    prompt: str | None = field(
        default=None,
        metadata={
            "choices": PROMPTS,
            "help": "prompt of yes_token (default: as saved, a released model's, else instructdistill) or listwise "
            "(else rank_zephyr_alpha)",
        },
    )
    yes_token: str | None = field(
        default=None,
        metadata={"help": "the answer whose logit is the score, or a token id in digits (default: the prompt's)"},
    )
    no_token: str | None = field(
        default=None,
        metadata={"help": "the answer whose logit is subtracted; empty for none (default: the prompt's)"},
    )
    task_prompt: str | None = field(
        default=None,
        metadata={"help": "the task in the prompts of llm_ranker and qwen3_reranker (default: the published one)"},
    )
    colbert_convention: str | None = field(
        default=None,
        metadata={
            "choices": list(CONVENTIONS),
            "help": "how colbert makes rows and scores (default: as saved, else what the folder is, else mean)",
        },
    )
    colbert_dim: int | None = field(
        default=None,
        metadata={
            "help": "width of colbert's projection; 0 for none (default: as saved, else 0; open_retrievals 1024, "
            "pylate 128)"
        },
    )

    def __post_init__(self) -> None:
        if self.student is not None:
            check_choice("student", self.student, list(STUDENTS))
        if self.prompt is not None:
            check_choice("prompt", self.prompt, PROMPTS)
        if self.colbert_convention is not None:
            check_choice("colbert_convention", self.colbert_convention, list(CONVENTIONS))
        if self.dtype is not None:
            check_choice("dtype", self.dtype, list(DTYPES))
        check_choice("reranker_model_type", self.reranker_model_type, MODEL_TYPES)
        check_choice("reranker_pooling", self.reranker_pooling, POOLINGS)
        if self.reranker_pooling == "cls" and self.reranker_model_type == "backbone":
            raise InputError("--reranker_pooling cls with a backbone is not supported; use sequence_classification")
        if self.num_hidden_layers is not None and self.num_hidden_layers < 1:
            raise InputError(f"--num_hidden_layers must be at least 1; got {self.num_hidden_layers}")
        if self.colbert_dim is not None and self.colbert_dim < 0:
            raise InputError(f"--colbert_dim must be 0 (no projection) or more; got {self.colbert_dim}")

    def load_options(self, *, training: bool, dtype: str = "float32") -> LoadOptions:
        """How the student is loaded.

        Args:
            training: weights that the folder lacks may be new, adapters stay trainable.
            dtype: number format where no --dtype is given.
        """
        lora = LoraOptions(self.lora_r, self.lora_alpha, self.lora_dropout, self.lora_target_modules)
        return LoadOptions(
            training=training,
            tokenizer_name=self.tokenizer_name,
            config_name=self.config_name,
            cache_dir=self.cache_dir,
            dtype=self.dtype or dtype,
            attn_implementation=self.attn_implementation,
            trust_remote_code=self.trust_remote_code,
            quantize=self.use_quantization_config and training,
            lora=lora if self.lora else None,
            lora_name_or_path=self.lora_name_or_path,
            num_hidden_layers=self.num_hidden_layers,
        )


@dataclass
class LayoutArguments:
    """How texts become token rows. What is left out is taken from the model's folder, else from the default."""

    rerank_max_len: int | None = field(
        default=None,
        metadata={"help": first("student", "tokens of a (query, passage) row (default: as saved, else 512)")},
    )
    query_max_len: int | None = field(
        default=None,
        metadata={"help": "tokens of the query (default: as saved; colbert 64, simcls 256, else no limit of its own)"},
    )
    passage_max_len: int | None = field(
        default=None,
        metadata={"help": "tokens of the passage (default: as saved; colbert 128, simcls 256, else no own limit)"},
    )
    query_prefix: str | None = field(
        default=None,
        metadata={"help": "put before the query, or a template in which {} is the query (default: as saved)"},
    )
    passage_prefix: str | None = field(
        default=None,
        metadata={"help": "put before the passage, or a template in which {} is the passage (default: as saved)"},
    )
    append_eos_token: bool = field(
        default=False, metadata={"help": "end a decoder's row in the end-of-sequence token (default: as saved)"}
    )
    pad_to_multiple_of: int | None = field(
        default=None, metadata={"help": "row lengths are rounded up to it (default: as saved, else 16)"}
    )
    pair_encoding: bool | None = field(
        default=None,
        metadata={
            "help": "cross-encoder: let the tokenizer join query and passage with its own special tokens "
            "(default: as saved, else where it has [CLS] and [SEP]; a decoder gets one string, as in Tevatron)"
        },
    )
    temperature: float | None = field(
        default=None,
        metadata={
            "help": "colbert and simcls divide their similarities by it (default: as saved, else 0.02; 1 for simcls "
            "and pylate)"
        },
    )
    window_size: int | None = field(
        default=None, metadata={"help": "listwise: passages shown at once (default: as saved, else 20)"}
    )
    step_size: int | None = field(
        default=None, metadata={"help": "listwise: how far the window moves (default: as saved, else 10)"}
    )
    num_passes: int | None = field(
        default=None,
        metadata={
            "help": "listwise: how often a list is walked through (default: as saved, else 1); pair_ranker: top places "
            "that bubble and heapsort find (default: as saved, else 10; LLM-Blender's bubble finds 1)"
        },
    )
    inference_mode: str | None = field(
        default=None,
        metadata={
            "choices": list(INFERENCE_MODES),
            "help": "pair_ranker: which pairs are compared to rank a list; `full` (allpair) all of them, `bubble` "
            "(sliding_window) neighbours in passes from the back, `heapsort` a heap's (default: as saved, else full)",
        },
    )
    pair_aggregation: str | None = field(
        default=None,
        metadata={
            "choices": list(AGGREGATIONS),
            "help": "pair_ranker, with full: a passage's score is the mean of its margins (`max_logits`) or the number "
            "of comparisons it wins (default: as saved, else max_logits)",
        },
    )
    orders: int | None = field(
        default=None,
        metadata={
            "help": "pair_ranker: orders in which two passages are shown, 2 (averaged) or 1, twice as fast "
            "(default: as saved, else 2)"
        },
    )
    decode: str | None = field(
        default=None,
        metadata={
            "choices": list(DECODES),
            "help": "listwise: order by the `logits` of the identifiers (one forward pass a window) or by "
            "`generation` (default: as saved, else logits)",
        },
    )

    def __post_init__(self) -> None:
        if self.decode is not None:
            check_choice("decode", self.decode, DECODES)
        if self.inference_mode is not None:
            check_choice("inference_mode", self.inference_mode, list(INFERENCE_MODES))
        if self.pair_aggregation is not None:
            check_choice("pair_aggregation", self.pair_aggregation, AGGREGATIONS)
        if self.orders not in (None, 1, 2):
            raise InputError(f"--orders must be 1 or 2; got {self.orders}")
        for name in ("rerank_max_len", "query_max_len", "passage_max_len", "temperature"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"--{name} must be more than 0; got {value}")


def student_keywords(
    model_arguments: ModelArguments, layout_arguments: LayoutArguments, *, training: bool, dtype: str = "float32"
) -> dict[str, Any]:
    """The keywords of ``load_student``: ``tokenizer, model, layout = load_student(**student_keywords(…))``.

    Args:
        model_arguments: which model, as what student.
        layout_arguments: what is asked of its rows; None where nothing is.
        training: weights that the folder lacks may be new, adapters stay trainable.
        dtype: number format where no --dtype is given.
    """
    return {
        "path": model_arguments.model_name_or_path,
        "student": model_arguments.student,
        "options": model_arguments.load_options(training=training, dtype=dtype),
        "settings": {
            **asdict(layout_arguments),
            "append_eos_token": layout_arguments.append_eos_token or None,
            "prompt": model_arguments.prompt,
            "yes_token": model_arguments.yes_token,
            "no_token": model_arguments.no_token,
            "task_prompt": model_arguments.task_prompt,
            "colbert_convention": model_arguments.colbert_convention,
            "colbert_dim": model_arguments.colbert_dim,
        },
    }

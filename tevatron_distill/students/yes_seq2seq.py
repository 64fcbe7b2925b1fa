"""T5 and its kin as rerankers: encode, one decoder step, last hidden state times the Yes row only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional
from transformers import MT5ForConditionalGeneration, T5ForConditionalGeneration, UMT5ForConditionalGeneration
from transformers.modeling_outputs import SequenceClassifierOutput


def yes_class(parent: Any) -> Any:
    """A T5's own class with a forward that gives the logit of Yes as the first decoded token."""

    class YesSeq2Seq(parent):
        """Scores by the token ``config.yes_token_id``, less ``config.no_token_id`` where it is set.

        The weights are the language model's, every one.
        """

        def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
            if not config.scale_decoder_outputs:
                # FLAN-T5, T5 v1.1: the head is a matrix of its own. transformers 5.23 ties whatever is listed when
                # the two compare equal, as empty partitions under ZeRO-3 do.
                tied = parent._tied_weights_keys
                self._tied_weights_keys = {name: to for name, to in tied.items() if name != "lm_head.weight"}
            super().__init__(config, *args, **kwargs)

        def forward(self, input_ids: Tensor, attention_mask: Tensor, **kwargs: Any) -> SequenceClassifierOutput:
            """Score rows.

            Args:
                input_ids: int64 ``[R, T]``.
                attention_mask: int64 ``[R, T]``.
                kwargs: passed over, for peft and Trainer send some; ``labels`` are refused.

            Returns:
                ``logits`` ``[R, 1]``.

            Raises:
                TypeError: if labels are passed: their loss would be a language model's.
            """
            if kwargs.get("labels") is not None:
                raise TypeError("this model scores passages and takes no labels; the ranking loss stands outside of it")
            encoded = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            num_rows = input_ids.shape[0]  # len() would be a constant of an exported graph
            start = input_ids.new_full((num_rows, 1), self.config.decoder_start_token_id or 0)
            hidden = self.decoder(
                input_ids=start, encoder_hidden_states=encoded, encoder_attention_mask=attention_mask, use_cache=False
            ).last_hidden_state[:, 0]
            if self.config.scale_decoder_outputs:
                hidden = hidden * self.config.d_model**-0.5
            yes, no = self.config.yes_token_id, getattr(self.config, "no_token_id", None)
            row = self.lm_head.weight[yes : yes + 1]
            if no is not None:
                row = row - self.lm_head.weight[no : no + 1]
            return SequenceClassifierOutput(logits=functional.linear(hidden, row))

        def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
            """Save as the plain language model that it is, so that other programs load the folder."""
            super().save_pretrained(save_directory, *args, **kwargs)
            path = Path(save_directory, "config.json")
            if not path.is_file():
                return
            values = json.loads(path.read_text(encoding="utf-8"))
            # transformers 4 ties and scales by this flag; 5.23 writes true for an untied head too, which is 16 off
            values["tie_word_embeddings"] = bool(self.config.scale_decoder_outputs)
            path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    # what save_pretrained writes into "architectures"
    YesSeq2Seq.__name__ = YesSeq2Seq.__qualname__ = parent.__name__
    return YesSeq2Seq


SEQ2SEQ: dict[str, Any] = {
    "t5": yes_class(T5ForConditionalGeneration),
    "mt5": yes_class(MT5ForConditionalGeneration),
    "umt5": yes_class(UMT5ForConditionalGeneration),
}
"""``config.model_type`` → class."""

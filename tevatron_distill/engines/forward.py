"""The forward passes behind each kind of answer, encoder-decoder and decoder alike."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from tevatron_distill.batching import Budget
from tevatron_distill.cross_attention import without_keys
from tevatron_distill.engines.chat import END_THINK, THINK
from tevatron_distill.engines.encoding import Encoded
from tevatron_distill.engines.head import Head
from tevatron_distill.layouts.rows import Row, pad_rows
from tevatron_distill.shared_prefix import LEAST_SAVED, can_share_prefixes, find_families, last_outputs, share_saved


class Forward:
    """Answers batches of encoded requests of one kind.

    Args:
        model: in evaluation mode on its device.
        tokenizer: its tokenizer, with a pad token.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._is_encoder_decoder = bool(model.config.is_encoder_decoder)
        self._takes = inspect.signature(model.forward).parameters
        own = model.generation_config.eos_token_id if model.can_generate() else None
        ends = own if isinstance(own, list) else [own]
        self._ends = sorted({end for end in (*ends, tokenizer.eos_token_id) if end is not None})
        # Greedy, whatever sampling, penalties and suppressed tokens the folder asks for.
        self._greedy = GenerationConfig(
            do_sample=False,
            eos_token_id=self._ends or None,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            decoder_start_token_id=getattr(model.config, "decoder_start_token_id", None),
        )
        model.generation_config = self._greedy
        few = Encoded([1, 2, 3], [0, 1], [], [], 0, False)
        self._head = Head(
            model, lambda: self._decode([few], [[0, 1]]) if self._is_encoder_decoder else self._continue([[1, 2, 3]], 3)
        )
        self._shares = can_share_prefixes(model)

    @torch.inference_mode()
    def choice(self, rows: Sequence[Encoded]) -> list[tuple[float, ...]]:
        """The logits of each row's labels at the answer's first open place."""
        with self._head.rows(_labels(rows)) as places:
            if self._is_encoder_decoder:
                logits = self._decode(rows, [row.decoder_ids for row in rows])
                last = torch.tensor([len(row.decoder_ids) - 1 for row in rows], device=logits.device)
                logits = logits[torch.arange(len(rows), device=logits.device), last]  # [R, labels]
            else:
                logits = self._continue([row.input_ids for row in rows], keep=1)[:, -1]
        return _read(rows, logits, places)

    def related_choices(
        self, rows: Sequence[Encoded], max_tokens: int, budget: Budget
    ) -> list[tuple[float, ...]] | None:
        """The same for a decoder's rows that begin alike, their beginnings computed once; None where it does not pay.

        Args:
            rows: of any number; batches are formed here.
            max_tokens: budget of a batch.
            budget: what is left of it when memory has run out.
        """
        if not self._shares:
            return None
        prompts = [row.input_ids for row in rows]
        families = find_families(prompts)
        if share_saved(prompts, families) < LEAST_SAVED:
            return None
        pad = self._tokenizer.pad_token_id
        with self._head.rows(_labels(rows)) as places:
            logits = last_outputs(
                self._model, prompts, families, pad_token_id=pad, max_tokens=max_tokens, budget=budget
            )
        return _read(rows, logits, places)

    @torch.inference_mode()
    def likelihood(self, rows: Sequence[Encoded]) -> list[tuple[float, ...]]:
        """The sum of the log-probabilities of each row's target, nats."""
        keep = max(1, *(len(row.target) for row in rows))
        if self._is_encoder_decoder:
            logits = self._decode(rows, [row.decoder_ids + row.target[:-1] for row in rows])
            starts = [len(row.decoder_ids) - 1 for row in rows]
        else:
            logits = self._continue([row.input_ids + row.target[:-1] for row in rows], keep)
            starts = [keep - len(row.target) for row in rows]
        sums: list[tuple[float, ...]] = []
        for row, start, line in zip(rows, starts, logits, strict=True):
            spoken = line[start : start + len(row.target)].float().log_softmax(-1)  # [T, V]
            target = torch.tensor(row.target, device=line.device, dtype=torch.long)
            sums.append((float(spoken.gather(1, target[:, None]).sum()),))
        return sums

    @torch.inference_mode()
    def text(self, rows: Sequence[Encoded]) -> tuple[list[str], int]:
        """What each row goes on with, greedily, until the model ends it or its room is full, without its thoughts.

        Returns:
            The texts, and how many tokens were generated for them.
        """
        batch = self._pad([row.input_ids for row in rows], left=not self._is_encoder_decoder)
        start = batch["input_ids"].shape[1]
        if self._is_encoder_decoder:
            batch["decoder_input_ids"] = torch.tensor([row.decoder_ids for row in rows], device=self._model.device)
            start = batch["decoder_input_ids"].shape[1]
        generated = self._model.generate(**batch, max_new_tokens=max(row.room for row in rows))[:, start:].tolist()
        texts, num_tokens = [], 0
        for row, ids in zip(rows, generated, strict=True):
            end = next((place for place, token in enumerate(ids) if token in self._ends), len(ids))
            said = ids[: min(end, row.room)]
            num_tokens += len(said)
            texts.append(without_thoughts(self._tokenizer, row, said))
        return texts, num_tokens

    def _decode(self, rows: Sequence[Encoded], decoder_ids: Sequence[list[int]]) -> Tensor:
        """Logits ``[R, T, V]`` of an encoder-decoder at all places of its output."""
        outputs = self._pad(decoder_ids, left=False)
        with without_keys(self._model):
            logits: Tensor = self._model(
                **self._pad([row.input_ids for row in rows], left=False),
                decoder_input_ids=outputs["input_ids"],
                decoder_attention_mask=outputs["attention_mask"],
                use_cache=False,
            ).logits
        return logits

    def _continue(self, rows: Sequence[list[int]], keep: int) -> Tensor:
        """Logits ``[R, keep, V]`` of a decoder at its last places."""
        batch: dict[str, Any] = dict(self._pad(rows, left=True))
        if "position_ids" in self._takes:
            batch["position_ids"] = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
        if "logits_to_keep" in self._takes:
            batch["logits_to_keep"] = keep
        logits: Tensor = self._model(**batch, use_cache=False).logits[:, -keep:]
        return logits

    def _pad(self, rows: Sequence[list[int]], *, left: bool) -> dict[str, Tensor]:
        side = "left" if left else "right"
        padded = pad_rows([Row(ids) for ids in rows], self._tokenizer.pad_token_id, side)
        return {name: padded[name].to(self._model.device) for name in ("input_ids", "attention_mask")}


def _labels(rows: Sequence[Encoded]) -> list[int]:
    return sorted({token for row in rows for token in row.labels})


def _read(rows: Sequence[Encoded], logits: Tensor, places: Mapping[int, int]) -> list[tuple[float, ...]]:
    """Each row's labels from its logits ``[R, V]``; a token's stands at its place."""
    lines = logits[:, list(places.values())].float().tolist()
    at = {token: place for place, token in enumerate(places)}
    return [tuple(line[at[token]] for token in row.labels) for row, line in zip(rows, lines, strict=True)]


def without_thoughts(tokenizer: Any, row: Encoded, said: list[int]) -> str:
    """What a model answers when it has thought; nothing where its room was full before.

    Args:
        tokenizer: the model's.
        row: what it was asked.
        said: the tokens that it generated.
    """
    before, begun = (tokenizer.decode(ids) for ids in (row.input_ids[-8:], said[:8]))
    mark = tokenizer.convert_tokens_to_ids(END_THINK)
    if mark in said and mark != tokenizer.unk_token_id:  # it may be special, and decoding would drop it
        said = said[len(said) - said[::-1].index(mark) :]
        return str(tokenizer.decode(said, skip_special_tokens=True)).strip()
    _, found, answer = str(tokenizer.decode(said, skip_special_tokens=True)).rpartition(END_THINK)
    if not found and (before.rstrip().endswith(THINK) or begun.lstrip().startswith(THINK)):
        return ""
    return answer.strip()

"""How a request becomes tokens: prompt, labels or target where they really stand, passages cut until it fits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from tevatron_distill.engines.chat import Chat, Neutral, Shown, special_tokens
from tevatron_distill.engines.request import Request
from tevatron_distill.prompts import Prompt
from tevatron_distill.schema import Candidates, InputError

# Tokens of an answer beyond those of a proper one: the end of the sequence, and what spelling in context may add.
SPARE_TOKENS = 4
CLOSE_ENOUGH = 2  # tokens that a shortened prompt may leave unused


class Encoded(NamedTuple):
    """A request as token ids.

    Attributes:
        input_ids: the prompt; for decoders with the answer's beginning.
        decoder_ids: how an encoder-decoder's output begins; empty for decoders.
        labels: ``choice``: the token of each label.
        target: ``likelihood``: the tokens whose probability is asked.
        room: ``text``: tokens that may be generated.
        shortened: whether passages were cut to fit.
    """

    input_ids: list[int]
    decoder_ids: list[int]
    labels: list[int]
    target: list[int]
    room: int
    shortened: bool

    @property
    def num_tokens(self) -> int:
        """Tokens that are read."""
        return len(self.input_ids) + len(self.decoder_ids) + len(self.target)


class Encoder:
    """Encodes requests for one model.

    Args:
        tokenizer: the model's.
        config: the model's.
        model_name: for messages.
        chat_template: one of `CHAT_TEMPLATES`.
        max_length: tokens of a prompt and, for decoders, its answer.
        thinking_tokens: tokens that a reasoning model may think before a text; 0 for no thoughts.

    Raises:
        InputError: if the chat template that is asked for is not there.
    """

    def __init__(
        self, tokenizer: Any, config: Any, model_name: str, chat_template: str, max_length: int, thinking_tokens: int
    ) -> None:
        self._tokenizer = tokenizer
        self._model_name = model_name
        self._thinking_tokens = thinking_tokens
        self.is_encoder_decoder = bool(config.is_encoder_decoder)
        positions = getattr(config.get_text_config(), "max_position_embeddings", None)  # T5 has no such limit
        self.max_length = min(max_length, positions or max_length)
        if self.is_encoder_decoder and chat_template == "always":
            raise InputError(f"--chat_template always: {model_name} has no chat template for its decoder; use auto")
        self.chat = Chat(
            tokenizer, model_name, "never" if self.is_encoder_decoder else chat_template, thinking_tokens > 0
        )
        start = config.decoder_start_token_id if self.is_encoder_decoder else 0
        if start is None:
            raise InputError(f"{model_name}: config.json must name a decoder_start_token_id")
        self._start = int(start)
        self._neutral = Neutral(special_tokens(tokenizer))
        self._label_ids: dict[tuple[str, str, tuple[str, ...]], list[int]] = {}
        self._rooms: dict[tuple[str, int], int] = {}

    def encode(self, request: Request) -> Encoded:
        """Tokens of a request; its passages lose as many characters as must be, the words around them none.

        Raises:
            InputError: if it does not fit without any passage, or its labels are no single tokens.
        """
        encoded, limit = self._encode(request, None)
        if len(encoded.input_ids) <= limit:
            return encoded
        best, _ = self._encode(request, 0)
        if len(best.input_ids) > limit:
            self._refuse_length(request, len(best.input_ids) - limit)
        fits, too_long = 0, max(map(len, request.passages))
        too_many = len(encoded.input_ids)
        by_length = True
        while too_long - fits > 1 and limit - len(best.input_ids) > CLOSE_ENOUGH:
            # Tokens grow about evenly with characters; halving now and then bounds the steps where they do not.
            share = (limit - len(best.input_ids)) / (too_many - len(best.input_ids)) if by_length else 0.5
            middle = min(too_long - 1, max(fits + 1, fits + int(share * (too_long - fits))))
            encoded, _ = self._encode(request, middle)
            if len(encoded.input_ids) <= limit:
                fits, best = middle, encoded
            else:
                too_long, too_many = middle, len(encoded.input_ids)
            by_length = not by_length
        return best._replace(shortened=True)

    def check(self, request: Request) -> None:
        """Refuse a request whose prompt leaves no room for passages.

        Raises:
            InputError: in this case.
        """
        encoded, limit = self._encode(request, 0)
        if len(encoded.input_ids) > limit:
            self._refuse_length(request, len(encoded.input_ids) - limit)

    def frame(self, request: Request) -> Encoded:
        """The tokens around the query and the passages."""
        empty = Candidates("", "", (), ())
        return self._encode(Request(request.prompt, empty, (), ("",) * len(request.passages)), None)[0]

    def shown(self, request: Request, max_characters: int | None = None) -> Shown:
        """What the model reads before it answers, as text; for encoder-decoders without the answer's beginning."""
        neutral = self._neutral
        candidates = request.candidates
        plain = Request(
            request.prompt,
            Candidates(candidates.query_id, neutral(candidates.query), (), ()),
            request.positions,
            tuple(neutral(text)[:max_characters] for text in request.passages),
        )
        wording = plain.render(is_encoder_decoder=self.is_encoder_decoder)
        if self.is_encoder_decoder:
            return Shown(wording.text(), wording.gap if wording.prefix else "", False)
        return self.chat.show(wording, thinks=request.prompt.answer == "text")

    def prefix(self, request: Request) -> str:
        """How an encoder-decoder's output begins; empty for decoders, which read it with the prompt."""
        return request.render(is_encoder_decoder=True).prefix if self.is_encoder_decoder else ""

    def room(self, request: Request) -> int:
        """Tokens that a generated answer may have, thoughts included; 0 for other kinds."""
        prompt, num_passages = request.prompt, len(request.passages)
        if prompt.answer != "text":
            return 0
        key = prompt.name, num_passages
        if key not in self._rooms:
            answer = self._ids(prompt.longest_answer(num_passages), whole=True)
            self._rooms[key] = len(answer) + SPARE_TOKENS + self._thinking_tokens
        return self._rooms[key]

    def _encode(self, request: Request, max_characters: int | None) -> tuple[Encoded, int]:
        """The request as it is cut, and how long its prompt may be."""
        shown = self.shown(request, max_characters)
        if self.is_encoder_decoder:
            prompt_ids = self._tokenizer(shown.text)["input_ids"]
            answer_ids, labels, target = self._answer_ids(request, Shown(self.prefix(request), shown.gap, True))
            decoder_ids = [self._start, *answer_ids]
            return Encoded(prompt_ids, decoder_ids, labels, target, self.room(request), False), self.max_length
        prompt_ids, labels, target = self._answer_ids(request, shown)
        room = self.room(request)
        return Encoded(prompt_ids, [], labels, target, room, False), self.max_length - room - len(target)

    def _answer_ids(self, request: Request, before: Shown) -> tuple[list[int], list[int], list[int]]:
        """Tokens of the text before the answer, of the labels, and of the target, as they are spelled together."""
        if request.prompt.answer == "choice":
            labels = self._labels(request.prompt, len(request.passages))
            name = request.prompt.labels(len(request.passages))[0]
            return self._ids(before.text + before.gap + name, before.whole)[:-1], labels, []
        ids = self._ids(before.text, before.whole)
        if request.prompt.answer == "text":
            return ids, [], []
        target = self._neutral(request.prompt.target(request.candidates.query))
        together = self._ids(before.text + before.gap + target, before.whole)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ids, together, strict=False)))
        return together[:same], [], together[same:]

    def _ids(self, text: str, whole: bool) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=not whole)["input_ids"]
        # Some tokenizers end every text; the answer must follow the text itself.
        return ids[:-1] if not whole and ids and ids[-1] == self._tokenizer.eos_token_id else ids

    def _labels(self, prompt: Prompt, num_passages: int) -> list[int]:
        """The token of each label as it is spelled behind the answer's beginning."""
        key = prompt.name, prompt.answer, prompt.labels(num_passages)
        if key not in self._label_ids:
            self._label_ids[key] = self._find_labels(prompt, num_passages)
        return self._label_ids[key]

    def _find_labels(self, prompt: Prompt, num_passages: int) -> list[int]:
        example = Request(prompt, Candidates("", "query", (), ()), (), ("passage",) * num_passages)
        shown = self.shown(example)
        if self.is_encoder_decoder:
            shown = Shown(self.prefix(example), shown.gap, True)
        length = len(self._ids(shown.text, shown.whole))
        names = prompt.labels(num_passages)
        spelled = [self._ids(shown.text + shown.gap + name, shown.whole) for name in names]
        found = [ids[-1] for ids in spelled]
        for place, (name, ids) in enumerate(zip(names, spelled, strict=True)):
            # A label may share its token with the text before it ("[A"), if all labels do.
            if ids[:-1] != spelled[0][:-1] or len(ids) > length + 1 or ids[-1] in found[:place]:
                pieces = self._tokenizer.convert_ids_to_tokens(ids[max(0, length - 1) :])
                raise InputError(
                    f'--prompt {prompt.name}: the label "{name}" must be one token of its own behind '
                    f'"{shown.text[-40:]}"; {self._model_name} spells it {pieces}; {_way_out(names)}'
                )
        return found

    def _refuse_length(self, request: Request, excess: int) -> None:
        raise InputError(
            f'query_id "{request.candidates.query_id}": the prompt must fit in --max_length {self.max_length} tokens, '
            f"its answer included; without any passage it has {excess} too many; raise --max_length, show fewer "
            "passages or shorten the query"
        )


def _way_out(names: Sequence[str]) -> str:
    if all(name.isdigit() for name in names):
        return "take a prompt whose identifiers are letters, or let it write its answer (--answer generate)"
    return "take another model or prompt"

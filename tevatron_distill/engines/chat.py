"""How a decoder is shown a wording: by its chat template, in a frame of the prompt's own, or as plain text."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from jinja2 import TemplateError

from tevatron_distill.prompts import Wording
from tevatron_distill.schema import InputError

CHAT_TEMPLATES = ("auto", "always", "never")
THINK, END_THINK = "<think>", "</think>"
_PROBE = "probe"
# A template that tells the date would change every prompt, and what the cache knows, at midnight. Llama 3's own day.
_SAME_DAY = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"


class Shown(NamedTuple):
    """What a decoder reads before it answers.

    Attributes:
        text: everything up to the answer, its prefix included.
        gap: what stands between the text and a word of the answer.
        whole: whether the text has its special tokens already, as a chat template writes them.
    """

    text: str
    gap: str
    whole: bool


class Chat:
    """Shows wordings to a decoder.

    Args:
        tokenizer: the model's.
        model_name: for messages.
        chat_template: ``auto`` uses the tokenizer's template where it has one, ``always`` demands it, ``never`` shows
            the published plain prompt.
        thinking: let a reasoning model think before it answers with a text.

    Raises:
        InputError: if a template is demanded and there is none.
    """

    def __init__(self, tokenizer: Any, model_name: str, chat_template: str, thinking: bool) -> None:
        self._tokenizer = tokenizer
        self._model_name = model_name
        self._thinking = thinking
        self._keeps_system: dict[tuple[str, ...], bool] = {}
        self._gaps: dict[tuple[str, ...], str] = {}
        if chat_template == "always" and not tokenizer.chat_template:
            raise InputError(f"--chat_template always: {model_name} has no chat template; use auto or never")
        self.used = bool(tokenizer.chat_template) and chat_template != "never"
        self._template = _SAME_DAY + tokenizer.get_chat_template() if self.used else ""
        first = tokenizer("a")["input_ids"][:1] if self.used else []
        self._beginning = tokenizer.bos_token if first == [tokenizer.bos_token_id] else ""

    def show(self, wording: Wording, *, thinks: bool) -> Shown:
        """The text before the answer.

        Args:
            wording: turns and prefix.
            thinks: whether this answer may begin with thoughts (where the engine allows them at all); there is no
                prefix then.

        Raises:
            InputError: if the chat template does not show the turns.
        """
        if wording.framed or not self.used:
            text = wording.text() + wording.prefix
            follows = text[-1:].isspace() or (wording.framed and not wording.prefix)
            return Shown(text, "" if follows else wording.gap, wording.framed)
        thinks = thinks and self._thinking
        roles = tuple(role for role, _ in wording.turns)
        if roles not in self._keeps_system:
            self._keeps_system[roles] = self._probe(roles)
        text = self._apply(wording.messages(keep_system=self._keeps_system[roles]), thinks)
        whole = not wording.begins or text.startswith(self._beginning)
        if thinks:
            return Shown(text, "", whole)
        if text.rstrip().endswith(THINK):  # some templates open the thoughts whatever one asks
            text = f"{text.rstrip()}\n\n{END_THINK}\n\n"
        return Shown(text + wording.prefix, wording.gap if wording.prefix else self._gap(roles), whole)

    def _apply(self, messages: list[dict[str, str]], thinks: bool = False, **keywords: Any) -> str:
        keywords = {"add_generation_prompt": True, "enable_thinking": thinks, **keywords}
        return str(
            self._tokenizer.apply_chat_template(messages, tokenize=False, chat_template=self._template, **keywords)
        )

    def _probe(self, roles: tuple[str, ...]) -> bool:
        """Whether the template shows a system turn as such; without that it must show the turns in any case."""
        turns = tuple((role, f"{_PROBE}{place}.") for place, role in enumerate(roles))
        error = ""
        for keep_system in (True, False) if "system" in roles else (True,):
            messages = Wording(turns).messages(keep_system=keep_system)
            try:
                text = self._apply(messages)
            except TemplateError as problem:  # "System role not supported", "roles must alternate"
                error = f" ({problem})"
                continue
            if re.findall(rf"{_PROBE}\d+\.", text) == [words for _, words in turns]:
                return keep_system
        raise InputError(
            f"--chat_template: the template of {self._model_name} does not show the turns {', '.join(roles)} of the "
            f"prompt{error}; use --chat_template never or another --prompt"
        )

    def _gap(self, roles: tuple[str, ...]) -> str:
        """What the template puts between its generation prompt and an answer: a space in Llama 2's, mostly nothing."""
        if roles not in self._gaps:
            turns = tuple((role, _PROBE) for role in roles)
            messages = Wording(turns).messages(keep_system=self._keeps_system[roles])
            asked = self._apply(messages)
            spoken = self._apply(
                [*messages, {"role": "assistant", "content": f"{_PROBE}!"}], add_generation_prompt=False
            )
            before, _, _ = spoken.removeprefix(asked).partition(f"{_PROBE}!")
            self._gaps[roles] = before if spoken.startswith(asked) and before.strip(" ") == "" else ""
        return self._gaps[roles]


class Neutral:
    """Takes special tokens out of users' texts, where they would end a turn, a sequence or a role.

    A space behind the first character (``< |im_end|>``) makes them words like any other.

    >>> Neutral({"<s>", "</s>"})("<s>struck</s> out")
    '< s>struck< /s> out'
    """

    def __init__(self, special_tokens: set[str]) -> None:
        longest_first = sorted(
            (token for token in special_tokens if len(token) > 1), key=lambda token: (-len(token), token)
        )
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) if longest_first else r"(?!)")

    def __call__(self, text: str) -> str:
        return self._pattern.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)


def special_tokens(tokenizer: Any) -> set[str]:
    """The texts that a tokenizer reads as special tokens."""
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return added | {str(token) for token in tokenizer.all_special_tokens}

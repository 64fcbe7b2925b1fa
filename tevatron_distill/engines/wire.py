"""What goes over the wire to an OpenAI-compatible server, and how its completions are read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tevatron_distill.engines.chat import END_THINK, THINK
from tevatron_distill.engines.encoding import SPARE_TOKENS
from tevatron_distill.engines.request import Answer, Request
from tevatron_distill.formats.jsonl import parse_json
from tevatron_distill.prompts import Prompt, Wording
from tevatron_distill.schema import Candidates, InputError

API_DIALECTS = ("auto", "openai", "vllm")
OPENAI_HOST = "api.openai.com"
# Marks that chat templates of today's models read as the end of a turn, a role, or thoughts.
_MARKS = re.compile(r"<\|[^\s|<>]{1,40}\|>|</?s>|</?think>|<(?:start|end)_of_turn>|<(?:bos|eos|pad)>|\[/?INST\]")
# OpenAI answers as `gpt-4o-2024-08-06` for `gpt-4o`, transformers as `name@revision`.
_SNAPSHOT = re.compile(r"-\d{4}-?\d{2}-?\d{2}|@[\w./-]+")


class Post(NamedTuple):
    """One HTTP request.

    Attributes:
        chat: whether it goes to ``/chat/completions``, and not to ``/completions``.
        body: its JSON, without the model's name.
        skipped: ``likelihood``: characters of the prompt before the target.
    """

    chat: bool
    body: dict[str, Any]
    skipped: int = 0


class Reply(NamedTuple):
    """What a completion says.

    Attributes:
        answer: by the kind asked; for ``choice`` the text where none of the labels is among the likely tokens.
        num_missing: labels that were not among the likely tokens and got the probability of the least likely of them.
        input_tokens: of the prompt, by the server's count.
        output_tokens: of the answer, thoughts included; both are 0 where the server does not count.
        counted: whether it does.
    """

    answer: Answer
    num_missing: int
    input_tokens: int
    output_tokens: int
    counted: bool


class MalformedError(Exception):
    """A server's 200 that holds no completion."""


class NoLogprobsError(Exception):
    """A completion without the log-probabilities that were asked for."""


class Wire:
    """Writes requests and reads completions.

    Args:
        dialect: ``openai`` sends what OpenAI's own API knows; ``vllm`` also what vLLM and SGLang know: the answer's
            beginning is continued, and the chat template is told whether to think.
        plain: ask ``/completions`` with the published plain prompt instead of the server's chat template.
        thinking_tokens: room for thoughts before a text.
        top_logprobs: likely tokens that are asked for where labels are compared.
    """

    def __init__(self, dialect: str, plain: bool, thinking_tokens: int, top_logprobs: int) -> None:
        self._extended = dialect == "vllm"
        self._plain = plain
        self._thinking_tokens = thinking_tokens
        self._top_logprobs = top_logprobs

    def post(self, request: Request) -> Post:
        """The HTTP request for a request; a function of it alone."""
        prompt = request.prompt
        calm = Request(
            prompt,
            Candidates(request.candidates.query_id, neutral(request.candidates.query), (), ()),
            request.positions,
            tuple(neutral(text) for text in request.passages),
        )
        wording = calm.render(is_encoder_decoder=False)
        if prompt.answer == "likelihood":
            before = wording.text() + wording.prefix
            gap = "" if before[-1:].isspace() else wording.gap
            text = before + gap + neutral(prompt.target(request.candidates.query))
            body = {"prompt": text, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0}
            return Post(False, body, len(before))
        if self._plain or (wording.framed and self._extended):
            return Post(False, self._plain_body(wording, request))
        return Post(True, self._chat_body(wording, request))

    def _plain_body(self, wording: Wording, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {"prompt": wording.text() + wording.prefix, "temperature": 0}
        if request.prompt.answer == "choice":
            return {**body, "max_tokens": 1, "logprobs": self._top_logprobs}
        return {**body, "max_tokens": self._room(request)}

    def _chat_body(self, wording: Wording, request: Request) -> dict[str, Any]:
        choice = request.prompt.answer == "choice"
        thinks = self._thinking_tokens > 0 and not choice
        prefix = "" if thinks else wording.prefix
        room = 1 if choice else self._room(request)
        messages = wording.messages()
        body: dict[str, Any] = {"messages": messages, "temperature": 0}
        body |= {"max_tokens": room} if self._extended else {"max_completion_tokens": room}
        if choice:
            body |= {"logprobs": True, "top_logprobs": self._top_logprobs}
            labels = request.prompt.labels(len(request.passages))
            if not self._extended:
                messages[-1]["content"] += f"\n\nAnswer with {_either(labels)} only, and nothing before it."
        if self._extended:
            body["chat_template_kwargs"] = {"enable_thinking": thinks}
            if prefix:
                messages.append({"role": "assistant", "content": prefix})
                body |= {"continue_final_message": True, "add_generation_prompt": False}
        return body

    def _room(self, request: Request) -> int:
        """Tokens of an answer; none is shorter than a byte, and the tokenizer is the server's."""
        answer = request.prompt.longest_answer(len(request.passages))
        return len(answer.encode()) + SPARE_TOKENS + self._thinking_tokens

    def read(self, request: Request, post: Post, model_name: str, text: str) -> Reply:
        """Read what the server sent.

        Raises:
            MalformedError: if it is no completion.
            NoLogprobsError: if it lacks the log-probabilities.
            InputError: if another model answered.
        """
        try:
            row = parse_json(text)
            choice = row["choices"][0]
            said = choice["message"]["content"] if post.chat else choice["text"]
            usage = row.get("usage") or {}
            spent = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            raise MalformedError(f"{type(error).__name__}: {text[:200]!r}") from None
        check_model(model_name, row.get("model"))
        kind = request.prompt.answer
        logprobs = choice.get("logprobs")
        answer: Answer
        num_missing = 0
        if kind == "text":
            answer = _without_thoughts(_whole(said))
        elif not logprobs:
            raise NoLogprobsError
        elif kind == "choice":
            labels = request.prompt.labels(len(request.passages))
            answer, num_missing = read_labels(_likely(logprobs), labels, _whole(said))
        else:
            answer = (_target_logprob(logprobs, post.skipped, len(post.body["prompt"])),)
        return Reply(answer, num_missing, *spent, bool(usage))


def neutral(text: str) -> str:
    """A text whose special tokens are words like any other, by a space behind the first character.

    The server's tokenizer is not known here, so these are the marks of common chat templates.

    >>> neutral("ends<|im_end|> here</s>")
    'ends< |im_end|> here< /s>'
    """
    return _MARKS.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)


def check_model(asked: str, answered: object) -> None:
    """Refuse the answer of another model; a dated snapshot or a revision of the one asked is that one.

    Raises:
        InputError: if the names differ.
    """
    name = str(answered)
    if name != asked and not (name.startswith(asked) and _SNAPSHOT.fullmatch(name[len(asked) :])):
        raise InputError(
            f"--model_name_or_path {asked}: the server answered as another model, {name!r}; ask for the model that it "
            "serves (GET /v1/models lists them)"
        )


def check_labels(prompt: Prompt, num_passages: int, top_logprobs: int) -> None:
    """Refuse labels that the first token of an answer does not tell apart.

    Raises:
        InputError: if one begins with another (1 and 10), or they are more than the likely tokens asked for.
    """
    labels = prompt.labels(num_passages)
    for label in labels:
        if any(other != label and other.startswith(label) for other in labels):
            raise InputError(
                f'--prompt {prompt.name}: the first token "{label}" may begin several labels of {num_passages} '
                "passages, and a server does not say how it spells them; take a prompt whose identifiers are letters, "
                "windows of at most 9 passages, or --answer generate"
            )
    if len(labels) > top_logprobs:
        raise InputError(
            f"--top_logprobs {top_logprobs} is less than the {len(labels)} labels of a question; raise it where the "
            "server allows (vLLM: --max-logprobs), ask about fewer passages, or take --answer generate"
        )


def read_labels(likely: Mapping[str, float], labels: Sequence[str], said: str) -> tuple[Answer, int]:
    """The log-probability of each label at an answer's first token.

    A token is a label's if it spells it, spaces around it aside; several of them are added up. A label that is not
    among the likely tokens gets the log-probability of the least likely one, which is the most it can have.

    Args:
        likely: tokens with their log-probabilities.
        labels: what is looked for.
        said: the answer itself, which stands for it where no label is likely.

    Returns:
        The numbers, or the text; and how many labels were not found.

    >>> read_labels({"A": -0.1, " The": -3.0}, ("A", "B"), "A")
    ((-0.1, -3.0), 1)
    >>> read_labels({"Sure": -0.1, " The": -3.0}, ("A", "B"), "Sure")
    ('Sure', 2)
    """
    finite = {token: value for token, value in likely.items() if math.isfinite(value)}
    found = {label: [value for token, value in finite.items() if token.strip(" \n▁Ġ") == label] for label in labels}
    num_missing = sum(not values for values in found.values())
    if num_missing == len(labels):
        return said, num_missing
    floor = min(finite.values())
    return tuple(_log_sum(values) if values else floor for values in found.values()), num_missing


def _log_sum(values: Sequence[float]) -> float:
    most = max(values)
    return most if len(values) == 1 else most + math.log(sum(math.exp(value - most) for value in values))


def _likely(logprobs: Any) -> dict[str, float]:
    """The likely first tokens, in the form of chats or of plain completions; one alone says nothing of the others."""
    try:
        if "content" in logprobs:
            entries = logprobs["content"][0]["top_logprobs"]
            pairs = [(str(entry["token"]), float(entry["logprob"])) for entry in entries]
        else:
            pairs = [(str(token), float(value)) for token, value in logprobs["top_logprobs"][0].items()]
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        raise NoLogprobsError from None
    if len(pairs) < 2:
        raise NoLogprobsError
    return dict(reversed(pairs))  # where tokens are spelled alike, the likeliest counts


def _target_logprob(logprobs: Any, start: int, end: int) -> float:
    """The sum over the tokens that begin at the characters ``start..end - 1`` of the prompt."""
    try:
        places = zip(logprobs["token_logprobs"], logprobs["text_offset"], strict=True)
        spoken = [value for value, offset in places if start <= offset < end]
        if not spoken:
            raise NoLogprobsError
        return float(sum(spoken))
    except (LookupError, TypeError, ValueError, OverflowError):
        raise NoLogprobsError from None


def _without_thoughts(said: str) -> str:
    if THINK in said[:16] and END_THINK not in said:
        return ""  # the room was full before the thoughts ended: there is no answer
    return said.rpartition(END_THINK)[2].strip()


def _whole(said: object) -> str:
    """The text, in which half a surrogate pair, of a token that ends within a character, becomes ``?``."""
    return str(said or "").encode("utf-8", "replace").decode()


def _either(labels: Sequence[str]) -> str:
    """
    >>> _either(("A", "B", "C"))
    'A, B or C'
    """
    return " or ".join(part for part in (", ".join(labels[:-1]), labels[-1]) if part)

"""An HTTP server that speaks like OpenAI's, and fails when it is told to."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "tiny"


def choice_of(logprobs, chat=True, model=MODEL, usage=(10, 1)):
    """A completion whose first token has these log-probabilities, token to number."""
    best = max(logprobs, key=logprobs.get)
    if chat:
        entries = [{"token": token, "logprob": value, "bytes": None} for token, value in logprobs.items()]
        content = [{"token": best, "logprob": logprobs[best], "bytes": None, "top_logprobs": entries}]
        return completion(best, {"content": content}, chat, model, usage)
    return completion(best, {"tokens": [best], "top_logprobs": [logprobs]}, chat, model, usage)


def completion(text, logprobs=None, chat=True, model=MODEL, usage=(10, 1)):
    """A completion with a text."""
    said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    counted = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)} if usage else None
    choices = [{"index": 0, "finish_reason": "stop", "logprobs": logprobs, **said}]
    return {"id": "1", "object": "chat.completion", "created": 0, "model": model, "choices": choices, "usage": counted}


class StubServer(ThreadingHTTPServer):
    """Answers each POST with what ``answer(body, path)`` returns.

    Args:
        answer: returns a completion; or ``(status, headers, bytes)``; or ``"half"``, ``"close"`` or ``"nothing"``.
        faults: what the first requests get in its place.
        seconds: that each request takes.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, answer, faults=(), seconds=0.0):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.faults = list(faults)
        self.seconds = seconds
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.bodies, self.paths, self.keys, self.times = [], [], [], []
        self.under_way = self.most_under_way = 0
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.closing.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave together
    disable_nagle_algorithm = True

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.bodies.append(body)
            server.paths.append(self.path)
            server.keys.append(self.headers["Authorization"])
            server.times.append(time.monotonic())
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
            fault = server.faults.pop(0) if server.faults else None
        try:
            server.closing.wait(server.seconds)
            self.reply(fault if fault is not None else server.answer(body, self.path))
        finally:
            with server.lock:
                server.under_way -= 1

    def reply(self, what):
        if what == "nothing":
            self.server.closing.wait(60)
            what = "close"
        if what == "close":
            self.close_connection = True
            return
        half = what == "half"
        what = completion("never read to its end") if half else what
        status, headers, content = what if isinstance(what, tuple) else (200, {}, json.dumps(what).encode())
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if half else content)
        self.close_connection = self.close_connection or half

    def log_message(self, *args):
        """Quiet."""

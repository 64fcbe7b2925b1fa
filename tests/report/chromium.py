"""A headless Chromium, driven by the W3C's WebDriver protocol: plain JSON over HTTP, so that it needs no package."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Space": " ", "ArrowDown": "\ue015", "ArrowUp": "\ue013", "End": "\ue010"}
PROGRAMS = (("chromium", "chromium-browser", "google-chrome"), ("chromedriver",))


def find_programs() -> tuple[str, str]:
    """The browser and its driver; the test is skipped where they are not installed."""
    found = [next(filter(None, map(shutil.which, names)), None) for names in PROGRAMS]
    if found[0] is None or found[1] is None:
        pytest.skip("install chromium and chromedriver (apt-get install chromium chromium-driver) to run this test")
    return found[0], found[1]


class Browser:
    """One window.

    Args:
        width: of the window, in pixels.
        height: of it.
        dark: the page is asked for its dark mode.
        folder: for the browser's own files.
    """

    def __init__(self, folder: Path, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        browser, driver = find_programs()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._root = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [driver, f"--port={port}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(folder)},
        )
        arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={width},{height}",
            "--hide-scrollbars",
            "about:blank",
        ]
        options = {"binary": browser, "args": arguments}
        wanted = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            "timeouts": {"script": 30_000},
        }
        try:
            self._wait()
            answer = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self._root += f"/session/{answer['sessionId']}"
            metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            self.chrome("Emulation.setDeviceMetricsOverride", metrics)
            mode = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            self.chrome("Emulation.setEmulatedMedia", {"features": [mode]})
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._ask("DELETE", "")
        finally:
            self._process.terminate()
            self._process.wait(timeout=30)

    def open(self, path: Path, fragment: str = "") -> None:
        self._ask("POST", "/url", {"url": "about:blank"})
        self._log("performance")
        self._ask("POST", "/url", {"url": path.absolute().as_uri() + fragment})

    def run(self, script: str, *arguments: object) -> Any:
        """The value of a function body."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def press(self, *keys: str) -> None:
        """Press and release keys one after the other; a name of `KEYS`, or characters."""
        actions = []
        for key in keys:
            for character in [KEYS[key]] if key in KEYS else key:
                actions += [{"type": "keyDown", "value": character}, {"type": "keyUp", "value": character}]
        self._ask("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def texts(self, selector: str) -> list[str]:
        """What the elements say, as they are seen."""
        return self.run("return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText.trim())", selector)

    def requests(self) -> list[str]:
        """Addresses that were asked for since the last call."""
        entries = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        return [e["params"]["request"]["url"] for e in entries if e["method"] == "Network.requestWillBeSent"]

    def errors(self) -> list[str]:
        """What the console complained of since the last call."""
        return [entry["message"] for entry in self._log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def screenshot(self, path: Path, whole: bool = False) -> None:
        parameters: dict[str, Any] = {"format": "png", "captureBeyondViewport": whole}
        if whole:
            size = self.run("const e = document.documentElement; return [e.clientWidth, e.scrollHeight]")
            parameters["clip"] = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        path.write_bytes(base64.b64decode(self.chrome("Page.captureScreenshot", parameters)["data"]))

    def chrome(self, command: str, parameters: dict[str, Any]) -> Any:
        """A command of Chrome's own protocol."""
        return self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _log(self, kind: str) -> list[dict[str, Any]]:
        return self._ask("POST", "/se/log", {"type": kind})

    def _wait(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                if self._ask("GET", "/status")["ready"]:
                    return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError("chromedriver does not answer")

    def _ask(self, method: str, path: str, content: object = None) -> Any:
        body = None if content is None else json.dumps(content).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._root + path, data=body, method=method, headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise RuntimeError(json.load(error)["value"]["message"]) from None

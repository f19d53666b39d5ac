"""A headless Chromium, driven by its DevTools protocol through two pipes: what the tests of HTML pages look at."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars --no-first-run "
    "--disable-background-networking --disable-extensions --remote-debugging-pipe"
).split()


def find() -> str | None:
    """The program: $CHROMIUM, or the first that is installed."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page; errors: what the file that is open has logged; requests: the addresses that it has asked for."""

    def __init__(self, program: str) -> None:
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        read, self.write = os.pipe()
        self.read, write = os.pipe()
        start = f'exec "$0" "$@" 3<&{read} 4>&{write}'  # the protocol's fixed file descriptors
        self.process = subprocess.Popen(
            ["bash", "-c", start, program, *OPTIONS, f"--user-data-dir={self.profile.name}", "about:blank"],
            pass_fds=(read, write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read)
        os.close(write)
        self.rest, self.number, self.session, self.events = b"", 0, None, []
        self.errors: list[str] = []
        self.requests: list[str] = []
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict:
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self.number:
            self._event(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _next(self) -> dict:
        while b"\0" not in self.rest:
            piece = os.read(self.read, 1 << 20)
            if not piece:
                raise RuntimeError("the browser has ended")
            self.rest += piece
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def _event(self, event: dict) -> None:
        name, p = event["method"], event.get("params", {})
        self.events.append(name)
        if name == "Runtime.exceptionThrown":
            self.errors.append(p["exceptionDetails"].get("exception", {}).get("description", "exception"))
        elif name == "Runtime.consoleAPICalled":
            self.errors.append(f"console: {p['args']}")
        elif name == "Log.entryAdded":
            self.errors.append(p["entry"]["text"])
        elif name == "Network.requestWillBeSent":
            self.requests.append(p["request"]["url"])

    def open(self, path: Path, width: int, height: int = 800, dark: bool = False) -> None:
        """Load a file as on a screen of so many pixels."""
        metrics = dict(width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        for kept in (self.events, self.errors, self.requests):
            kept.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        while "Page.loadEventFired" not in self.events:
            self._event(self._next())

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"].get("exception", {}).get("description", script))
        return result["result"].get("value")

    def picture(self, path: Path, whole: bool = True) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]))

    def pdf(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"]))

    def close(self) -> None:
        self.session = None
        self.call("Browser.close")
        self.process.wait(timeout=60)
        os.close(self.write)
        os.close(self.read)
        self.profile.cleanup()

"""The fake as a child process, for callers without an event loop of their own: the demo, benchmarks, sync
tests."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, Self


class FakeProcess:
    """A running `python -m tests.codex_fake`; the arguments are those of its command line.

    The child ends when this process does, however that happens: it reads our pipe.
    """

    def __init__(self, *arguments: str) -> None:
        root = Path(__file__).resolve().parents[2]
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.codex_fake", *arguments],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f"the fake did not start (exit {self._child.wait()})")
        self.ready: dict[str, Any] = json.loads(line)
        self.backend_url: str = self.ready["backend_url"]
        self.responses_url: str = self.ready["responses_url"]
        self.issuer_url: str = self.ready["issuer_url"]
        self.ca: str | None = self.ready.get("ca")
        self._context = ssl.create_default_context(cafile=self.ca) if self.ca else None
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._context)
        )

    @property
    def pid(self) -> int:
        return self._child.pid

    def call(self, path: str, **arguments: Any) -> Any:
        """POST below /_fake, e.g. `call("accounts/acct-main/limit", reset_in=60)`."""
        request = urllib.request.Request(
            f"{self.ready['control_url']}/{path}", json.dumps(arguments).encode(), method="POST"
        )
        with self._opener.open(request) as answer:
            return json.load(answer)

    def get(self, path: str = "state") -> Any:
        """GET below /_fake: `state`, `accounts/NAME/requests`."""
        with self._opener.open(f"{self.ready['control_url']}/{path}") as answer:
            return json.load(answer)

    def close(self) -> None:
        if self._child.stdin is not None:
            self._child.stdin.close()
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""Where the clients live: one environment per client or family, made once, outside of the project's own.

Versions are ranges, so that a fresh installation meets what users get today; where an old version is a contract of
its own it is pinned. No lock files, and no word on where packages come from: that is the machine's business."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import orjson

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / ".clients"
DRIVERS = Path(__file__).parent / "drivers"


@dataclass(frozen=True, slots=True)
class Environment:
    """One installation. `python_below`: the first Python version that its packages refuse."""

    name: str
    kind: Literal["python", "node"]
    packages: tuple[str, ...]
    python_below: tuple[int, int] | None = None

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @property
    def stamp(self) -> Path:
        """Holds what was installed; of no worth once that is not what is wanted."""
        return self.folder / "installed"

    @property
    def wanted(self) -> str:
        return "\n".join((self.kind, *self.packages))

    @property
    def ready(self) -> bool:
        return self.stamp.is_file() and self.stamp.read_text() == self.wanted

    @property
    def bin(self) -> Path:
        return self.folder / ("bin" if self.kind == "python" else "node_modules/.bin")

    @property
    def drivers(self) -> Path:
        """A module for Node finds its packages from where it lies: there the drivers lie, by a link."""
        return DRIVERS if self.kind == "python" else self.folder / "drivers"

    def command(self, driver: str) -> list[str]:
        """What runs a driver in this environment."""
        path = str(self.drivers / driver)
        if self.kind == "python":
            return [str(self.bin / "python"), path]
        return ["node", "--preserve-symlinks", "--preserve-symlinks-main", path]

    def interpreter(self) -> str | None:
        """The program that makes and runs it, None if this machine has none."""
        if self.kind == "node":
            return shutil.which("node") if shutil.which("npm") else None
        if self.python_below is None or sys.version_info[:2] < self.python_below:
            return sys.executable
        major, minor = self.python_below
        names = [f"python{major}.{older}" for older in range(minor - 1, minor - 4, -1)]
        return next((path for name in names if (path := shutil.which(name)) and _runs(path)), None)

    def missing(self) -> str | None:
        """Why its clients cannot be tested here and now, None when they can."""
        if self.ready:
            return None
        if self.interpreter() is None:
            if self.kind == "node":
                return "there is no Node.js with npm here"
            return "its packages want a Python below {}.{}, and there is none here".format(
                *self.python_below or ()
            )
        return "not installed: run `make test-clients`"

    def version(self, package: str) -> str:
        """The installed version of a package."""
        if self.kind == "node":
            found = orjson.loads((self.folder / "node_modules" / package / "package.json").read_bytes())
            return str(found["version"])
        code = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
        command = [str(self.bin / "python"), "-c", code, package]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _runs(path: str) -> bool:
    """A name on the PATH may be a version manager's, with nothing behind it."""
    return subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0


def _python(name: str, *packages: str, below: tuple[int, int] | None = None) -> Environment:
    return Environment(name, "python", packages, below)


OPENAI = _python("openai", "openai>=3.54,<4")
OPENAI_1 = _python("openai-1", "openai==1.109.1")
LANGCHAIN = _python("langchain", "langchain-openai>=1.7,<2")
LITELLM = _python("litellm", "litellm>=1.106,<2")
PYDANTIC_AI = _python("pydantic-ai", "pydantic-ai-slim[openai]>=2.60,<3")
AGENTS = _python("openai-agents", "openai-agents>=0.24,<1")
LLM = _python("llm", "llm>=0.36,<1")
AIDER = _python("aider", "aider-chat>=0.86,<1", below=(3, 13))
NODE = Environment(
    "node", "node", ("openai@^7.57.0", "ai@^7.0.0", "@ai-sdk/openai@^4.0.0", "zod@^4.0.0", "undici@^6.21.0")
)
"""undici 6 is the version inside Node 20: its dispatcher serves that Node's own fetch, newer ones do not."""
CODEX = Environment("codex", "node", ("@openai/codex@>=0.169.0 <1",))
OPENCODE = Environment("opencode", "node", ("opencode-ai@^1.18.0",))
PI = Environment("pi", "node", ("@mariozechner/pi-coding-agent@>=0.73.0 <1",))

ENVIRONMENTS = (
    OPENAI,
    OPENAI_1,
    LANGCHAIN,
    LITELLM,
    PYDANTIC_AI,
    AGENTS,
    LLM,
    AIDER,
    NODE,
    CODEX,
    OPENCODE,
    PI,
)

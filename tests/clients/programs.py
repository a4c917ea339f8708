"""Clients that are command-line programs: they need no driver, a test runs them as a user would.

`{text}` stands for what the user says, `{home}` for the folder that is theirs. Which words make the model call a
program's own tool depends on the program; what the tool then gives is the same for all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.clients import environments
from tests.clients.driving import MODEL, PATIENCE
from tests.clients.environments import Environment

# Without blanks, because opencode quotes what has them.
SHELL = 'call:{tool}{{"{argument}":"printf\\u0020am;echo\\u0020ber","description":"spell"}}'
TOOL_SAID = "amber"


@dataclass(frozen=True, slots=True)
class Program:
    """`tool`: the words that lead to a call of its tool, None if it has none. `limit`: what it says, soon, when every
    account is out; None if it goes on trying for as long as it takes. `base`: writes the settings by which it learns
    its base URL, for those that do not read OPENAI_BASE_URL."""

    name: str
    environment: Environment
    package: str
    binary: str
    """Below its environment's folder; may have wildcards."""
    arguments: tuple[str, ...]
    whole: tuple[str, ...] | None = None
    """What makes it ask for an answer in one piece."""
    tool: str | None = None
    limit: str | None = None
    base: Callable[[Path, str], None] | None = None
    environ: Mapping[str, str] = field(default_factory=dict)

    def path(self) -> Path | None:
        return next(iter(self.environment.folder.glob(self.binary)), None)

    def missing(self) -> str | None:
        """Why it cannot be tested here, None when it can."""
        if reason := self.environment.missing():
            return reason
        return None if self.path() else "its package has no binary for this machine"

    async def say(self, text: str, home: Path, environ: Mapping[str, str], *, whole: bool = False) -> str:
        """Run it once with this text; what it printed."""
        words = [
            word.replace("{text}", text).replace("{home}", str(home))
            for word in (*self.arguments, *((self.whole or ()) if whole else ()))
        ]
        more = {name: value.replace("{home}", str(home)) for name, value in self.environ.items()}
        folder = home / "work"
        folder.mkdir(exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            str(self.path()),
            *words,
            cwd=folder,
            env={**environ, **more},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                printed, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        return printed.decode(errors="replace")


def _codex_base(home: Path, url: str) -> None:
    (home / ".codex").mkdir()
    (home / ".codex/config.toml").write_text(f'openai_base_url = "{url}"\n')


def _pi_base(home: Path, url: str) -> None:
    folder = home / ".pi/agent"
    folder.mkdir(parents=True)
    (folder / "models.json").write_text(json.dumps({"providers": {"openai": {"baseUrl": url}}}))


PROGRAMS = (
    Program(
        "llm",
        environments.LLM,
        "llm",
        "bin/llm",
        (
            "prompt",
            "-m",
            MODEL,
            "--functions",
            "def spell(word: str) -> str:\n    return word.lower()\n",
            "{text}",
        ),
        whole=("--no-stream",),
        tool='call:spell{"word":"AMBER"}',
        limit="The usage limit has been reached",
        environ={"LLM_USER_PATH": "{home}/llm"},
    ),
    Program(
        "aider",
        environments.AIDER,
        "aider-chat",
        "bin/aider",
        (
            *("--model", f"openai/{MODEL}", "--chat-mode", "ask", "--message", "{text}"),
            *("--yes-always", "--no-git", "--no-check-update", "--no-show-model-warnings"),
            *("--analytics-disable", "--map-tokens", "0", "--no-pretty"),
        ),
        whole=("--no-stream",),
        environ={"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    ),
    Program(
        "codex",
        environments.CODEX,
        "@openai/codex",
        "node_modules/.bin/codex",
        (
            *("exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"),
            *("-m", MODEL, "{text}"),
        ),
        tool=SHELL.format(tool="exec_command", argument="cmd"),
        limit="hit your usage limit. Try again at",
        base=_codex_base,
    ),
    Program(
        "opencode",
        environments.OPENCODE,
        "opencode-ai",
        "node_modules/opencode-*/bin/opencode",
        ("run", "-m", f"openai/{MODEL}", "{text}"),
        tool=SHELL.format(tool="bash", argument="command"),
    ),
    Program(
        "pi",
        environments.PI,
        "@mariozechner/pi-coding-agent",
        "node_modules/.bin/pi",
        ("--provider", "openai", "--model", MODEL, "-p", "{text}"),
        tool=SHELL.format(tool="bash", argument="command"),
        limit="account-1 is limited",
        base=_pi_base,
    ),
)

"""
`make demo`: the main job in half a minute, against an embedded stand-in for the ChatGPT backend.

Everything else is real: a mitmdump with the addon, the `openai-auth` command, and the OpenAI SDK in a process of
its own that only sees HTTPS_PROXY and a CA file. Nothing outside a temporary folder is touched.
"""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.codex_fake.server import CodexFake
from tests.proxy_process import ROOT, ProxyProcess

console = Console(highlight=False)
BIN = Path(sys.executable).parent


class Demo:
    """The steps, each announced before it runs."""

    def __init__(self, home: Path, fake: CodexFake) -> None:
        self._home = home
        self._fake = fake
        self._environ = {
            "OPENAI_AUTH_HOME": str(home),
            "OPENAI_AUTH_CONFDIR": str(home / "mitmproxy"),
            "OPENAI_AUTH_BACKEND_URL": fake.backend_url,
            "OPENAI_AUTH_ISSUER_URL": fake.issuer_url,
        }

    async def run(self) -> None:
        main, work = self._fake.account("acct-main", plan="plus"), self._fake.account("acct-work", plan="pro")
        step("Two ChatGPT accounts are imported from auth.json files; the first is main")
        for account, label in ((main, None), (work, "work")):
            path = account.write_auth_json(self._home / f"{account.name}.json")
            await self._command("import", str(path), *(["--label", label] if label else []), quiet=True)
        await self._command("list")

        step("The proxy starts: mitmdump -s addon/main.py")
        async with ProxyProcess(self._home, self._environ) as proxy:
            console.print(f"  listening on {proxy.url}; its CA can sign api.openai.com only\n")

            step("An unmodified OpenAI client asks, through HTTPS_PROXY; the answer comes as a stream")
            main.slow(0.04)
            await self._ask(proxy, "Say something while I watch, word by word, please")

            step("Main has used up its quota. The same client asks again: the fallback answers, unnoticed")
            main.limit(reset_in=9000)
            work.slow(0.04)
            await self._ask(proxy, "And now? Who is there?")
            for line in proxy.lines:
                if "→" in line:
                    console.print(f"  [dim]the proxy's log:[/] {line.split('] ', 1)[-1]}")
            console.print()
        step("What is left on each account, as the answers themselves told")
        await self._command("quota", "--no-poll")

    async def _ask(self, proxy: ProxyProcess, text: str) -> None:
        client = [sys.executable, "-m", "tests.demo_client", text]
        console.print("  [dim]$ openai-auth run -- python client.py[/]")
        await self._command("run", "--proxy", proxy.url, "--", *client, quiet=False, echo=False)

    async def _command(self, *arguments: str, quiet: bool = False, echo: bool = True) -> None:
        if echo:
            shown = [Path(word).name if os.sep in word else word for word in arguments]
            console.print(f"  [dim]$ openai-auth {' '.join(shown)}[/]")
        clean = {name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")}
        process = await asyncio.create_subprocess_exec(
            BIN / "openai-auth",
            *arguments,
            env=clean | self._environ,
            cwd=ROOT,
            stdout=asyncio.subprocess.DEVNULL if quiet else None,
            stderr=asyncio.subprocess.DEVNULL if quiet else None,
        )
        if await process.wait():
            sys.exit(f"openai-auth {' '.join(arguments)} failed")
        if not quiet:
            console.print()


def step(text: str) -> None:
    console.print(f"[bold cyan]▸[/] [bold]{text}[/]", soft_wrap=True)


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="openai-auth-demo-") as folder:
        async with CodexFake() as fake:
            await Demo(Path(folder), fake).run()
    console.print("[green]Done.[/] For real: [bold]make run[/], then [bold].venv/bin/openai-auth login[/].")


if __name__ == "__main__":
    asyncio.run(main())

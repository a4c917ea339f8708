"""`openai-auth` addon-path, demo and version: what is installed, where, and what it does."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

from accounts.console import command, fail, say
from accounts.paths import DISTRIBUTION


@command("addon-path", 'mitmdump -s "$(openai-auth addon-path)"')
def addon_path_() -> None:
    """Print the path of the mitmproxy addon."""
    say(str(addon_path()))


@command("demo", "openai-auth demo")
def demo() -> None:
    """Show the main job against an embedded stand-in for the backend; nothing real is touched."""
    checkout = addon_path().parent.parent
    if not (checkout / "tests" / "demo.py").is_file():
        fail("the demo is part of the source checkout: run `make demo` there")
    sys.exit(subprocess.run([sys.executable, "-m", "tests.demo"], cwd=checkout, check=False).returncode)


@command("version", "openai-auth version")
def version() -> None:
    """Print the version."""
    say(importlib.metadata.version(DISTRIBUTION))


def addon_path() -> Path:
    """The file for mitmproxy's `-s`. Found without importing it: it belongs to mitmproxy's process."""
    spec = importlib.util.find_spec("addon")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (found := Path(folder) / "main.py").is_file():
            return found
    fail(f"the addon is not installed; install {DISTRIBUTION} again")

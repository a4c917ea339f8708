"""`openai-auth` addon-path and version: what is installed, and where."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from accounts.console import command, fail, say

DISTRIBUTION = "openai-auth-proxy"


@command("addon-path", 'mitmdump -s "$(openai-auth addon-path)"')
def addon_path_() -> None:
    """Print the path of the mitmproxy addon."""
    say(str(addon_path()))


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

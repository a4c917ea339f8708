"""The `openai-auth` command: which file brings which subcommands.

The one idea: a file is imported when one of its commands is asked for, since most of them need libraries that take
longer to import than a command like `env` takes to run. For help, completion and typing errors all are imported.
"""

from __future__ import annotations

import importlib
import sys

import typer

from accounts.console import app

FILES = {
    "cli_login": ("login", "logout"),
    "cli_accounts": ("import", "list", "remove", "switch", "order", "rename", "enable", "disable"),
    "cli_quota": ("quota",),
    "cli_routing": ("routing", "explain"),
    "cli_killswitch": ("killswitch",),
    "cli_reset": ("reset",),
    "cli_keys": ("keys",),
    "cli_settings": ("config",),
    "cli_logging": ("logging",),
    "cli_client": ("env", "run"),
    "cli_doctor": ("doctor",),
    "cli_about": ("addon-path", "demo", "version"),
}
"""In the order of the help."""


def program(asked: str | None = None) -> typer.Typer:
    """The app with the commands of the file that has the one asked for; with all, if none has."""
    for file in [file for file, commands in FILES.items() if asked in commands] or FILES:
        importlib.import_module(f"accounts.{file}")
    return app


def main() -> None:
    """The console script."""
    program(sys.argv[1] if len(sys.argv) > 1 else None)()

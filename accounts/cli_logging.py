"""`openai-auth logging`: how much is logged, and where."""

from __future__ import annotations

from typing import Annotated

import typer

from accounts import paths
from accounts.console import command, say, settings_after_writing, settings_file
from accounts.logs import log_path
from accounts.setting_types import LEVELS
from accounts.settings_file import write_settings
from accounts.settings_sources import Kind

KEY = "logging.level"


@command("logging", "openai-auth logging", "openai-auth logging debug")
def logging_(
    level: Annotated[
        str | None,
        typer.Argument(metavar="|".join(LEVELS), help="The new level.", autocompletion=lambda: list(LEVELS)),
    ] = None,
) -> None:
    """Show or change how much is logged. A running proxy follows within a second.

    The level is kept in the settings file; a variable or mitmproxy option that is set is stronger.
    """
    if level is not None:
        level = level.lower()
        if level not in LEVELS:
            raise typer.BadParameter(f"{level!r} is none of {', '.join(LEVELS)}")
        write_settings(paths.settings_file(), {KEY: level})
    settings = settings_file() if level is None else settings_after_writing()
    if settings is None:
        return
    value, origin = settings.loaded.value_and_origin(KEY)
    decided = "" if origin.kind in (Kind.FILE, Kind.DEFAULT) else f" (decided by {origin.name})"
    say(f"Level: {value}{decided}")
    say(f"File: {log_path(settings.current)}")

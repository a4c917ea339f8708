"""`openai-auth config`: every setting, its value and where that comes from; and the way to change one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated

import typer
from rich.markup import escape

from accounts import paths
from accounts.console import (
    Json,
    app,
    command,
    note,
    print_json,
    print_table,
    say,
    settings_after_writing,
    settings_file,
)
from accounts.settings_file import write_settings
from accounts.settings_sources import Kind, find
from accounts.settings_table import NOT_BUILT, describe, shown

config = typer.Typer()
app.add_typer(config, name="config")


@command(
    "config",
    "openai-auth config",
    "openai-auth config set webSearch off",
    "openai-auth config set killswitch.main 5,10 killswitch.enabled on",
    "openai-auth config unset webSearch",
    of=config,
    group=True,
)
def show(context: typer.Context, as_json: Json = False) -> None:
    """Show every setting, its value, and where it comes from."""
    if context.invoked_subcommand is not None:
        return
    settings = settings_file()
    rows = []
    for row in describe():
        value, origin = settings.loaded.value_and_origin(row.json_path)
        rows.append((row, value, origin))
    if as_json:
        print_json(
            [
                {
                    "key": row.json_path,
                    "value": json.loads(shown(value)),
                    "origin": str(origin),
                    "env": row.env,
                    "option": row.option,
                    "type": row.type,
                    "choices": list(row.choices),
                    "default": row.default,
                    "help": row.help,
                }
                for row, value, origin in rows
            ]
        )
        return
    say(f"Settings file: {settings.path}{'' if settings.path.exists() else ' (not there yet)'}")
    print_table(
        ("SETTING", "VALUE", "FROM"),
        (
            (
                row.json_path,
                escape(row.default if value is None else shown(value)),
                _from(origin.kind, origin.name) + ("" if row.built else f" ({NOT_BUILT})"),
            )
            for row, value, origin in rows
        ),
    )


@command(
    "set",
    "openai-auth config set webSearch off",
    "openai-auth config set killswitch.main 5,10",
    of=config,
)
def set_(
    pairs: Annotated[
        list[str], typer.Argument(metavar="KEY VALUE", help="Names as in the file, with their values.")
    ],
) -> None:
    """Write settings to the settings file; everything else in it stays as it is.

    A running proxy takes them over within a second, except for the few that it reads at its start.
    """
    if len(pairs) % 2:
        raise typer.BadParameter("each KEY needs a VALUE")
    changes = dict(zip(pairs[::2], pairs[1::2], strict=True))
    write_settings(paths.settings_file(), changes)
    _report(changes)


@command("unset", "openai-auth config unset webSearch", of=config)
def unset(
    keys: Annotated[list[str], typer.Argument(metavar="KEY", help="Names as in the file.")],
) -> None:
    """Remove settings from the settings file, so that their defaults hold again."""
    write_settings(paths.settings_file(), dict.fromkeys(keys))
    _report(keys)


def _report(keys: Iterable[str]) -> None:
    """What holds now, which is not what was written if something stronger says otherwise."""
    settings = settings_after_writing()
    if settings is None:
        return
    for key in keys:
        leaf = find(key)
        value, origin = settings.loaded.value_and_origin(leaf.path)
        remark = " (a running proxy reads it when it starts again)" if leaf.at_start else ""
        if origin.kind in (Kind.OPTION, Kind.ENVIRONMENT):
            remark = f" (decided by {origin.name})"
        say(f"{leaf.path} = {shown(value)}{remark}")
        if not leaf.built:
            note(f"warning: {leaf.path} has no effect: it is {NOT_BUILT}")


def _from(kind: Kind, name: str) -> str:
    if kind is Kind.DEFAULT:
        return "[dim]default[/]"
    return "file" if kind is Kind.FILE else escape(name)

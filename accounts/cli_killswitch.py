"""`openai-auth killswitch`: how much of each account is left to its owner."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.markup import escape

from accounts import killswitch_rules, paths
from accounts.console import (
    Json,
    coloured,
    command,
    note,
    open_store,
    print_json,
    print_table,
    say,
    settings_file,
)
from accounts.routing import Policy
from accounts.settings_file import write_settings


@command(
    "killswitch",
    "openai-auth killswitch",
    "openai-auth killswitch set all:5,10 work:20,30",
    "openai-auth killswitch off",
)
async def killswitch(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[on | off | set ACCOUNT:5H,1W …]",
            help="Remaining percent below which an account rests: in windows up to 24 hours, and in longer ones. "
            "ACCOUNT is an id, a label, main, or all.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show or change what an account must have left to be used."""
    async with open_store() as store:
        accounts, quotas = await store.accounts(), await store.quotas()
    if words:
        try:
            changes = killswitch_rules.changes(words, accounts, settings_file().current)
        except killswitch_rules.NotUnderstood as error:
            raise typer.BadParameter(str(error)) from None
        write_settings(paths.settings_file(), changes)
    switch = Policy.from_settings(settings_file().current).killswitch
    for name in killswitch_rules.unknown_names(switch, accounts):
        note(f"warning: thresholds are set for {name!r}, but no account has that name")
    rows = killswitch_rules.rows(switch, accounts, quotas, time.time())
    if as_json:
        print_json(
            {
                "enabled": switch.enabled,
                "accounts": [
                    {
                        "id": account.id,
                        "account": account.name,
                        "primary": switch.thresholds(account).short,
                        "secondary": switch.thresholds(account).long,
                        "state": state,
                    }
                    for account, (_, _, _, state) in zip(accounts, rows, strict=True)
                ],
            }
        )
        return
    say(f"Killswitch: {'on' if switch.enabled else 'off'}")
    print_table(
        ("ACCOUNT", "UP TO 24 H", "LONGER", "STATE"),
        (
            (escape(name), short, long, coloured(escape(state), {"serves": "green"}))
            for name, short, long, state in rows
        ),
    )

"""`openai-auth keys`: who may use this proxy, once it is not for everybody."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from accounts.account_views import iso
from accounts.console import Json, app, command, note, open_store, print_json, print_table, say
from accounts.key_records import ClientKey, valid

keys = typer.Typer()
app.add_typer(keys, name="keys")


@command("keys", "openai-auth keys add laptop", "openai-auth keys list", of=keys, group=True)
async def show(context: typer.Context, as_json: Json = False) -> None:
    """Let only those clients in that have a key of this list."""
    if context.invoked_subcommand is None:
        await _show(as_json)


@command("add", "openai-auth keys add laptop", of=keys)
async def add(
    label: Annotated[str, typer.Argument(help="Whose key it is.")],
    as_json: Json = False,
) -> None:
    """Make a client key and show it, this once.

    From the first key on, only clients that send one as their API key are served.
    """
    async with open_store() as store:
        first = not valid(await store.client_keys())
        key, secret = await store.add_client_key(label)
    if as_json:
        print_json({"id": key.id, "label": key.label, "key": secret.reveal()})
    else:
        say(secret.reveal())
        note(
            f"This is the key of {key.label} (id {key.id}). It is not shown again; use it as OPENAI_API_KEY."
        )
    if first:
        note("From now on only clients with a key are served.")


@command("list", "openai-auth keys list", "openai-auth keys list --json", of=keys)
async def list_(as_json: Json = False) -> None:
    """Show the client keys and what was used with each."""
    await _show(as_json)


async def _show(as_json: bool) -> None:
    async with open_store() as store:
        found = await store.client_keys()
    if as_json:
        print_json([row(key) for key in found])
        return
    if not valid(found):
        note("There is no client key, so every client is served. `openai-auth keys add LABEL` makes one.")
    if not found:
        return
    print_table(
        ("KEY", "STATE", "REQUESTS", "INPUT", "CACHED", "OUTPUT", "LAST USED", "ID"),
        (
            (
                escape(key.label),
                "[green]valid[/]" if key.revoked_at is None else f"[dim]revoked {iso(key.revoked_at)}[/]",
                f"{key.use.requests:,}",
                f"{key.use.input_tokens:,}",
                f"{key.use.cached_tokens:,}",
                f"{key.use.output_tokens:,}",
                iso(key.use.last_used_at) or "never",
                key.id,
            )
            for key in found
        ),
    )


@command("revoke", "openai-auth keys revoke laptop", of=keys)
async def revoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="The key's id or label.")],
) -> None:
    """End a client key; a running proxy refuses it within a second."""
    async with open_store() as store:
        key, left = await store.revoke_client_key(id)
    say(f"Revoked the key of {key.label}.")
    if not left:
        note("No valid key is left: every client is served again, except those with a revoked key.")


def row(key: ClientKey) -> dict[str, Any]:
    """One key of `keys list --json`."""
    return {
        "id": key.id,
        "label": key.label,
        "created_at": iso(key.created_at),
        "revoked_at": iso(key.revoked_at),
        "requests": key.use.requests,
        "input_tokens": key.use.input_tokens,
        "cached_tokens": key.use.cached_tokens,
        "output_tokens": key.use.output_tokens,
        "last_used_at": iso(key.use.last_used_at),
    }

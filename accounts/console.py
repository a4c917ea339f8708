"""What every subcommand of `openai-auth` shares: the app, the way to the store, and how results and errors look.

The one idea: a command is a plain or async function with typed parameters under `@command(…)`, in a
`cli_*.py` that `cli.py` imports; everything around it happens here. The rules: results go to stdout and all
else to stderr; an expected error is one sentence that says what to do, with exit code 1, never a traceback.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from accounts import paths
from accounts.logs import Log
from accounts.models import AccountsError
from accounts.settings import Settings
from accounts.settings_file import SettingsFile
from accounts.settings_sources import SettingsError
from certs.authority import AuthorityError

if TYPE_CHECKING:
    from accounts.store import Store

app = typer.Typer(
    name="openai-auth",
    help="Use ChatGPT subscriptions from any OpenAI client: accounts, quota, settings, and how to run a client.",
    callback=lambda: None,  # what makes a lone command a subcommand too
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

type Command = Callable[..., object]


def command(
    name: str, *examples: str, of: typer.Typer = app, group: bool = False, **options: Any
) -> Callable[[Command], Command]:
    """Registers a function, sync or async, as a subcommand; its docstring is the help, `examples` follow it.

    `group`: the function is what `of`, a group of commands, does when none of them is named."""

    def register(function: Command) -> Command:
        @functools.wraps(function)
        def guarded(*args: object, **kwargs: object) -> None:
            log = _open_log()
            try:
                result = function(*args, **kwargs)
                if inspect.iscoroutine(result):
                    asyncio.run(result)
            except (AccountsError, AuthorityError) as error:
                fail(str(error))
            finally:
                log.close()

        epilog = _examples(examples)
        if group:
            return of.callback(invoke_without_command=True, epilog=epilog, **options)(guarded)
        return of.command(name, epilog=epilog, **options)(guarded)

    return register


def _open_log() -> Log:
    """The log of this command: into the file only, since stderr is for what the person has to know."""
    log = Log()
    log.open()
    try:
        log.use(SettingsFile().current)
    except SettingsError:  # the command says so, unless it can do without settings
        log.use(Settings())
    return log


def _examples(lines: Iterable[str]) -> str:
    return "\n\n".join(("Example:", *(f"  {line}" for line in lines)))


def fail(message: str) -> NoReturn:
    """Ends the command with exit code 1 and the reason."""
    note(f"openai-auth: {message}")
    raise typer.Exit(1)


def note(message: str) -> None:
    """A line for the person, not for a program that reads the output."""
    typer.echo(message, err=True)


def say(message: str) -> None:
    """A line of result."""
    typer.echo(message)


def print_json(value: object) -> None:
    say(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """A table for people; colour on a terminal only. Cells may hold rich's markup."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    terminal().print(table)


def terminal() -> Console:
    """Where tables go. Into a pipe or file lines are as long as they have to be."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 400)


@asynccontextmanager
async def open_store() -> AsyncIterator[Store]:
    """The store of this machine. In a chosen folder (OPENAI_AUTH_HOME) the key lies beside it."""
    from accounts.store import Store  # most of the time a command takes to start, and many do not need it

    async with await Store.open(paths.state_folder(), keyring=paths.home() is None) as store:
        yield store


def settings_file() -> SettingsFile:
    """The settings as the command sees them, with a warning for each variable that is ignored."""
    found = SettingsFile()
    for problem in found.problems:
        note(f"warning: {problem}")
    return found


def settings_after_writing() -> SettingsFile | None:
    """The same after a change was written; None if something else in the file keeps it from being used."""
    try:
        return settings_file()
    except SettingsError as error:
        note(f"warning: written, but the file holds other errors:\n{error}")
        return None


def coloured(text: str, states: Mapping[str, str]) -> str:
    """The text in the colour that `states` has for it."""
    colour = states.get(text)
    return f"[{colour}]{text}[/]" if colour else text


def _names(incomplete: str) -> list[str]:
    """Shell completion of an account's name."""

    async def names() -> list[str]:
        async with open_store() as store:
            return [account.name for account in await store.accounts()]

    try:
        return [name for name in asyncio.run(names()) if name.startswith(incomplete)]
    except AccountsError:
        return []


Id = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="The account's id, label or ChatGPT account id; main is always the main account.",
        autocompletion=_names,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

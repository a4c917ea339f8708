"""
What mitmproxy commands have in common: their names, their errors, and the writing of settings.

The rule: what a person did wrong is a `CommandError`, which mitmproxy shows where the command was typed.
"""

from collections.abc import Callable, Mapping

from mitmproxy import command
from mitmproxy.exceptions import CommandError
from mitmproxy.types import Choice

from accounts import paths
from accounts.models import AccountsError
from accounts.settings_file import write_settings
from accounts.settings_sources import Kind, find
from accounts.settings_table import shown
from addon.options import Options


def codex[F: Callable[..., object]](name: str, **choices: str) -> Callable[[F], F]:
    """Makes a method the command `codex.<name>`; `choices` name the commands that complete its arguments."""

    def decorate(function: F) -> F:
        for argument, options in choices.items():
            command.argument(argument, type=Choice(options))(function)
        decorated: F = command.command(f"codex.{name}")(function)
        return decorated

    return decorate


def opened[T](service: Callable[[], T]) -> T:
    """One of the services, if it is there by now."""
    try:
        return service()
    except AttributeError:
        raise CommandError("The accounts are not loaded yet, or cannot be; the log says why.") from None


def valid[T](act: Callable[[], T]) -> T:
    """What `act` returns; what it finds wrong is the command's error."""
    try:
        return act()
    except AccountsError as error:
        raise CommandError(str(error)) from None


def write(options: Options, changes: Mapping[str, object]) -> list[str]:
    """Writes settings to their file; says of each what holds now, also when something stronger decides."""
    valid(lambda: write_settings(paths.settings_file(), changes))
    options.reload()
    return [_told(options, key) for key in changes]


def _told(options: Options, key: str) -> str:
    leaf = find(key)
    value, origin = options.value_and_origin(leaf.path)
    if origin.kind in (Kind.OPTION, Kind.ENVIRONMENT):
        return f"{leaf.path} is written, but {origin.name} decides: {shown(value)}"
    when = ", when the proxy starts again" if leaf.at_start else ""
    return f"{leaf.path} = {shown(value)}{when}"

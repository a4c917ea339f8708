"""The README says what the code says."""

import re
from pathlib import Path

from accounts.cli import program
from accounts.settings_table import markdown
from addon.commands import Commands
from addon.policy_commands import PolicyCommands

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_settings_table_is_the_models() -> None:
    assert markdown().strip() in README


def test_every_command_it_names_exists() -> None:
    app = program()
    names = {each.name for each in (*app.registered_commands, *app.registered_groups)}
    named = set(re.findall(r"(?<=[`/])openai-auth\s+([a-z-]*[a-z])", README))
    assert len(named) > 15
    assert named <= names


def test_every_mitmproxy_command_it_names_exists() -> None:
    functions = [value for addon in (Commands, PolicyCommands) for value in vars(addon).values()]
    names = {function.command_name for function in functions if hasattr(function, "command_name")}
    named = set(re.findall(r"(?<=`)codex\.[a-z.]*[a-z]", README))
    assert len(named) > 15
    assert named <= names

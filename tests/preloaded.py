"""What tests/forked.py has imported before it forks: the command, mitmproxy, and the addon but for its main.py."""

import addon.commands
import addon.intercept
import addon.logs
import addon.options
import addon.own_ca
import addon.policy_commands
import addon.services  # noqa: F401
from accounts.cli import program

program()

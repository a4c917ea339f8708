"""The `openai-auth` command: which files bring which subcommands.

To add a command, write it under `@command(…)` in a `cli_*.py` and import that here.
"""

# ruff: noqa: F401, I001
from accounts.console import app
from accounts import cli_login
from accounts import cli_accounts
from accounts import cli_quota
from accounts import cli_routing
from accounts import cli_killswitch
from accounts import cli_reset
from accounts import cli_keys
from accounts import cli_settings
from accounts import cli_logging
from accounts import cli_client
from accounts import cli_doctor
from accounts import cli_about


def main() -> None:
    """The console script."""
    app()

"""What tests/forked_proxy.py has imported before it forks: mitmproxy, and the addon but for its main.py."""

import addon.commands
import addon.intercept
import addon.logs
import addon.options
import addon.own_ca
import addon.policy_commands
import addon.services  # noqa: F401

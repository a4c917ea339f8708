"""Where things lie on this machine.

The one idea: `OPENAI_AUTH_HOME` moves everything (settings, state, key, logs) into one folder, for tests and
portable use; without it the platform's own folders are used. The rule: nobody else builds these paths.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import platformdirs

APP = "openai-auth"
DISTRIBUTION = "openai-auth-proxy"
"""What the package is called where it is installed from."""
PREFIXES = ("OPENAI_AUTH_", "CORTEXKIT_OPENAI_AUTH_", "OPENCODE_OPENAI_AUTH_")
"""Prefixes of our variables, ours first; the other two are those of the project whose names we accept."""

PLACES = frozenset({"HOME", "FILE", "CONFDIR", "PROXY"})
"""Variables that say where things are; they are not settings."""

MITMPROXY_CONFDIR = "~/.mitmproxy"
"""mitmproxy's own default for its option `confdir`."""


def variable(name: str, environ: Mapping[str, str] | None = None) -> tuple[str, str] | None:
    """The name and text of the variable `OPENAI_AUTH_<name>` or of its first alias that is set."""
    environ = os.environ if environ is None else environ
    for prefix in PREFIXES:
        if (text := environ.get(prefix + name)) is not None:
            return prefix + name, text
    return None


def home(environ: Mapping[str, str] | None = None) -> Path | None:
    """The folder that holds everything, if one was chosen."""
    found = variable("HOME", environ)
    return Path(found[1]).expanduser() if found and found[1].strip() else None


def state_folder(environ: Mapping[str, str] | None = None) -> Path:
    """The folder of `state.db`, `key` and the logs. It need not exist yet."""
    return home(environ) or platformdirs.user_data_path(APP, appauthor=False)


def settings_file(environ: Mapping[str, str] | None = None) -> Path:
    """The settings file. It need not exist."""
    found = variable("FILE", environ)
    if found and found[1].strip():
        return Path(found[1]).expanduser()
    return (home(environ) or platformdirs.user_config_path(APP, appauthor=False)) / "openai-auth.json"


def mitmproxy_folder(environ: Mapping[str, str] | None = None) -> Path:
    """mitmproxy's confdir, where the CA lies; `OPENAI_AUTH_CONFDIR` names another one to the command."""
    found = variable("CONFDIR", environ)
    return Path(found[1] if found and found[1].strip() else MITMPROXY_CONFDIR).expanduser()

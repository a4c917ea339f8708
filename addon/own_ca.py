"""
The CA that may sign api.openai.com and nothing else, put where mitmproxy looks for its own.

mitmproxy makes an unconstrained CA of its own when it finds none, and with a `confdir` given on the command line
it does so before a script is loaded. So a CA that is younger than this process and unconstrained was made a moment
ago, by mitmproxy, and is replaced; an older one is the user's and stays.
"""

import logging
from pathlib import Path

from mitmproxy import ctx

from certs import authority

logger = logging.getLogger(__name__)


class OwnCa:
    """The addon: makes the CA at start, and lets mitmproxy read it."""

    def load(self, _loader: object) -> None:
        confdir = Path(ctx.options.confdir).expanduser()
        started = process_start()
        ours = authority.ensure(confdir, replace_newer_than=started)
        if ours.certificate.stat().st_mtime >= started:
            # By us or by another proxy that started with us: mitmproxy may have read the one that was there before.
            # `configure` is where it reads its CA, and nowhere else.
            ctx.master.addons.get("tlsconfig").configure({"confdir"})
        if ours.created:
            logger.info("Made a CA that can sign api.openai.com only: %s", ours.certificate)
        if not ours.constrained:
            logger.warning(
                "The CA in %s was there before and can sign any name. To have one that can sign api.openai.com "
                "only, stop the proxy, move the mitmproxy-ca* files away and start again.",
                confdir,
            )


def process_start() -> float:
    """When this process began, in epoch seconds: logging is among the first modules mitmproxy imports."""
    record = logging.makeLogRecord({})
    return record.created - record.relativeCreated / 1000

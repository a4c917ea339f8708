"""`python -m tests.codex_fake`: the fake in a process of its own.

Prints one line of JSON when it is ready (addresses, accounts, the root certificate with --tls) and runs until
its standard input closes or it is interrupted. Drive it over `control_url`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from .server import CodexFake
from .tls import server_context


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.codex_fake", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls", type=Path, metavar="FOLDER", help="speak https; the certificate goes there")
    parser.add_argument("--fast", action="store_true", help="ready-made answers, no checks (benchmarks)")
    parser.add_argument(
        "--account", action="append", default=[], metavar="NAME[:PLAN[:EMAIL]]", help="make this account"
    )
    parser.add_argument(
        "--auth", type=Path, metavar="FOLDER", help="write NAME.json (auth.json) of each account there"
    )
    parser.add_argument(
        "--lenient-ports", action="store_true", help="any localhost port as a login's redirect"
    )
    return parser.parse_args()


async def _run(arguments: argparse.Namespace) -> None:
    fake = CodexFake(fast=arguments.fast)
    fake.issuer.lenient_ports = arguments.lenient_ports
    ready: dict[str, object] = {}
    context = None
    if arguments.tls is not None:
        context, certificate = server_context(arguments.tls)
        ready["ca"] = str(certificate)
    accounts: dict[str, dict[str, str]] = {}
    for spec in arguments.account:
        name, _, rest = spec.partition(":")
        plan, _, email = rest.partition(":")
        account = fake.account(name, plan=plan or "plus", email=email or None)
        accounts[name] = {"account_id": account.account_id}
        if arguments.auth is not None:
            accounts[name]["auth_json"] = str(account.write_auth_json(arguments.auth / f"{name}.json"))
    async with await fake.start(arguments.host, arguments.port, context):
        ready |= {
            "backend_url": fake.backend_url,
            "responses_url": fake.responses_url,
            "issuer_url": fake.issuer_url,
            "control_url": fake.control_url,
            "accounts": accounts,
        }
        print(json.dumps(ready), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    try:
        asyncio.run(_run(_arguments()))
    except KeyboardInterrupt:
        sys.exit(0)

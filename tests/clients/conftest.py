"""The table at the end of `make test-clients`: every client by every way, each case with what became of it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

import pytest

from tests.clients.programs import PROGRAMS
from tests.clients.registry import CLIENTS, WAYS

_ID = re.compile(r"::test_(\w+)\[(.+?)-(proxy|base)(?:-|\])")
_WORST = ("failed", "error", "passed", "skipped")
"""A case that was run in several forms is as bad as its worst; it is skipped only if all of them are."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for outcome in _WORST:
        for report in terminalreporter.stats.get(outcome, ()):
            if match := _ID.search(report.nodeid):
                case, name, way = match.groups()
                found[name, way][case].add(outcome)
    if found:
        terminalreporter.section("clients")
        terminalreporter.write_line(table(found))


def table(found: Mapping[tuple[str, str], Mapping[str, set[str]]]) -> str:
    """Markdown."""
    cases = list(dict.fromkeys(case for row in found.values() for case in row))
    head = ["client", "version", "way", *(case.replace("_", " ") for case in cases)]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    for each in (*CLIENTS, *PROGRAMS):
        for way in WAYS:
            if row := found.get((each.name, way)):
                version = each.environment.version(each.package) if each.environment.ready else ""
                results = [
                    next((worst for worst in _WORST if worst in row.get(case, ())), "") for case in cases
                ]
                lines.append(f"| {' | '.join([each.name, version, way, *results])} |")
    return "\n".join(lines)

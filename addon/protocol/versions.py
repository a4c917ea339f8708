"""Protocol versions (`0.169.0`): which of several is the newest.

The backend gates each model by the version a client claims, so ours is the newest of what the settings say, what
the client offered and what the model asks for. The rule: what is not three numbers is never newer than anything.
"""

from __future__ import annotations

from collections.abc import Iterable


def numbers(version: str) -> tuple[int, ...]:
    """`0.169.0` as numbers; () for anything else."""
    parts = version.split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        return ()
    return tuple(map(int, parts))


def is_newer(version: str, than: str) -> bool:
    """Whether `version` is a version, and a higher one."""
    return numbers(version) > numbers(than)


def newest(version: str, others: Iterable[str | None]) -> str:
    """`version`, or the highest of the others that is newer."""
    for other in others:
        if other and is_newer(other, version):
            version = other
    return version

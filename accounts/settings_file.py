"""The settings file as a live source, and the one way in which we write it.

The one idea: people edit the file while the proxy runs, so it is looked at often (one `stat`) and read only
when it changed. The rules: a wrong edit never takes away the settings that were good, and nothing but
`write_settings` changes the file, which keeps everything it was not asked to change.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accounts import paths
from accounts.settings import Settings
from accounts.settings_sources import (
    Loaded,
    Problem,
    SettingsError,
    check,
    file_problems,
    find,
    load,
    says_opposite,
)
from accounts.settings_table import plain

ATTEMPTS = 10
"""How often a write starts again because another process wrote the file meanwhile."""

type Signature = tuple[int, int, int]
"""Modification time (ns), inode, size: what one `stat` tells about a change."""


class SettingsFile:
    """Settings from options, environment and the file, kept current.

    Raises SettingsError if they are wrong at the start: there is nothing good yet to fall back on, and a
    proxy that ignores half of a file could spend quota its owner wanted to keep."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        options: Mapping[str, object] | None = None,
    ) -> None:
        self.path = path or paths.settings_file(environ)
        self._environ = environ
        self._options = dict(options or {})
        self._seen = _signature(self.path)
        self._vanished = False
        self._document = read_document(self.path)
        self._edit: tuple[Problem, ...] = ()
        self.loaded = self._load(self._document, self._options)

    @property
    def current(self) -> Settings:
        return self.loaded.settings

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong now: a live edit that was not taken over, and variables that are ignored."""
        return self._edit + self.loaded.warnings

    def reload_if_changed(self) -> bool:
        """Looks whether the file changed, cheap enough for twice a second.

        True if `current` or `problems` is now different. Never raises for a wrong file: `problems` tells."""
        signature = _signature(self.path)
        if signature == self._seen:
            self._vanished = False
            return False
        if signature is None and not self._vanished:
            # Some editors move the file away before they write the new one: believe it the second time.
            self._vanished = True
            return False
        before = (self.current, self.problems)
        self._seen = signature
        try:
            document = read_document(self.path)
            self.loaded = self._load(document, self._options)
        except SettingsError as error:
            self._edit = error.problems
        else:
            self._document, self._edit = document, ()
        return (self.current, self.problems) != before

    def use_options(self, options: Mapping[str, object]) -> None:
        """Takes over the explicitly set mitmproxy options, beside the file as it last was good.

        Raises SettingsError and changes nothing if one is wrong."""
        self.loaded = self._load(self._document, options)
        self._options = dict(options)

    def _load(self, document: Mapping[str, object], options: Mapping[str, object]) -> Loaded:
        return load(options=options, environ=self._environ, document=document, file=str(self.path))


def write_settings(file: Path, changes: Mapping[str, object]) -> None:
    """Sets settings by JSON path, variable or option name, and keeps everything else in the file.

    A text value is read as on the command line (`off`, `5,10`); None removes the entry. The file is replaced
    in one step, and may hold errors elsewhere, which this does not add to. Raises SettingsError if a value is
    wrong or does not fit the others; the file is untouched then."""
    target = file.resolve()
    for _ in range(ATTEMPTS):
        before = _signature(target)
        document = read_document(target)
        known = file_problems(document, str(file))
        for key, value in changes.items():
            _change(document, key, value, str(file))
        if wrong := [found for found in file_problems(document, str(file)) if found not in known]:
            raise SettingsError(wrong)
        if not known:
            load(environ={}, document=document, file=str(file))
        try:
            if _replace(target, document, expected=before):
                return
        except OSError as error:
            reason = f"cannot be written: {error.strerror}"
            raise SettingsError([Problem(str(file), "file", "", reason)]) from None
    raise SettingsError([Problem(str(file), ", ".join(changes), "", "the file keeps changing; try again")])


def read_document(path: Path) -> dict[str, Any]:
    """The file as JSON object; a missing or empty file is an empty one. Raises SettingsError."""
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not UTF-8"
        raise SettingsError([Problem(str(path), "file", "", f"cannot be read: {reason}")]) from None
    if not text.strip():
        return {}
    try:
        document = json.loads(text, object_pairs_hook=_object)
    except _Twice as error:
        raise SettingsError([Problem(str(path), error.key, "", "is there twice; keep one of them")]) from None
    except (ValueError, RecursionError) as error:
        where, what = "file", str(error)
        if isinstance(error, json.JSONDecodeError):
            where, what = f"line {error.lineno}", error.msg
        raise SettingsError([Problem(str(path), where, "", f"is not JSON: {what}")]) from None
    if not isinstance(document, dict):
        raise SettingsError([Problem(str(path), "file", "", "allowed: a JSON object {…}")])
    return document


class _Twice(ValueError):
    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(key)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Twice(key)
        found[key] = value
    return found


def _signature(path: Path) -> Signature | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def _change(document: dict[str, Any], key: str, value: object, file: str) -> None:
    leaf = find(key)
    *groups, last = leaf.path.split(".")
    inner = document
    for group in groups:
        inner = inner.setdefault(group, {})
        if not isinstance(inner, dict):
            raise SettingsError([Problem(file, group, "", "allowed: an object; correct the file first")])
    checked = None if value is None else plain(check(leaf, value, file))
    if checked is None:
        inner.pop(last, None)
        return
    if says_opposite(leaf, key):
        checked = not checked
    if isinstance(checked, bool) and isinstance(inner.get(last), dict):
        inner[last]["enabled"] = checked
    else:
        inner[last] = checked


def _replace(path: Path, document: Mapping[str, Any], *, expected: Signature | None) -> bool:
    """Writes the file in one step, with the mode it had (0600 if new), unless it is not as expected."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            Path(name).chmod(path.stat().st_mode & 0o777)
        if _signature(path) != expected:
            return False
        os.replace(name, path)
        return True
    finally:
        Path(name).unlink(missing_ok=True)

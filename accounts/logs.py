"""Our log: its levels, its file, and the filter that keeps secrets out of every log there is.

The one idea: the filter sits on handlers, where every record comes by whoever wrote it. It changes the record
itself, so one handler that stands first (`guard`) is enough for all that come after it, such as mitmproxy's
terminal and event log.

The rules: nothing is written before it went through the filter; a log that cannot be written stops nothing; the
file is nobody else's to read (0600). Bodies are not logged anywhere in this project.

File and rotation are those of the model project: 5 MiB, then `.1`, `.2` and `.3`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from accounts import paths
from accounts.redaction import NOTHING_KNOWN, Known, redact, redact_data
from accounts.settings import Settings

if sys.platform != "win32":
    import fcntl

TRACE = 5
"""Below debug: everything, other programs' messages too."""
LEVELS = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}
OURS = ("accounts", "addon", "certs")
"""The top-level packages whose loggers are ours."""

TALKATIVE = ("aiohttp", "sqlalchemy", "keyring")
"""Libraries of ours that describe every step at debug, with the values that go into the database. mitmproxy lets
all loggers do that and shows it; these are kept at warnings."""

FILE = "openai-auth.log"
MAX_BYTES = 5 * 1024 * 1024
"""Size of the file at which a new one is begun."""
KEPT = 3
"""Old files that are kept."""
MAX_TEXT = 16_384
"""Characters of one message; what goes on longer than that is no message."""

logging.addLevelName(TRACE, "TRACE")

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_REDACTED = "_openai_auth_redacted"


class Redaction(logging.Filter):
    """Takes secrets out of a record: message, arguments, exception, stack, and whatever `extra` brought.

    The record is changed in place, once: message and traceback become plain text, so that no handler formats
    the arguments or the exception again. `known` is asked for secrets without a form of their own.
    """

    def __init__(self, known: Callable[[], Known] = lambda: NOTHING_KNOWN) -> None:
        super().__init__()
        self.known = known

    def filter(self, record: logging.LogRecord) -> bool:
        if _REDACTED not in record.__dict__ and not _is_invitation(record):
            known = self.known()
            record.msg = _bounded(_text_of(record), known)
            record.args = None
            record.exc_info = record.exc_text = record.stack_info = None
            for name in record.__dict__.keys() - _STANDARD:
                record.__dict__[name] = redact_data(record.__dict__[name], known)
            record.__dict__[_REDACTED] = True
        return True


class Guard(logging.Handler):
    """Writes nothing: as the first handler of the root logger it redacts for all the others.

    A trace record goes on as a debug one that is called TRACE: mitmproxy shows a level that it does not know
    as an error.
    """

    def __init__(self, known: Callable[[], Known] = lambda: NOTHING_KNOWN) -> None:
        super().__init__()
        self.addFilter(Redaction(known))

    def emit(self, record: logging.LogRecord) -> None:
        record.levelno = max(record.levelno, logging.DEBUG)


class Line(logging.Formatter):
    """`2026-11-27T10:00:00.000Z INFO [dispatch] message {"extra": 1}`; further lines of it are indented."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        channel = record.name.rpartition(".")[2] if _is_ours(record.name) else record.name
        text = record.getMessage().rstrip("\n").replace("\n", "\n    ")
        extras = {
            name: value
            for name, value in record.__dict__.items()
            if name not in _STANDARD and name != _REDACTED
        }
        line = f"{moment}.{int(record.msecs):03}Z {record.levelname} [{channel}] {text}"
        return f"{line} {json.dumps(extras, ensure_ascii=False)}" if extras else line


class LogFile(logging.Handler):
    """Appends to one file, which several processes may share, and turns it over when it is full.

    Takes our own records, and of others warnings and worse; all of them when `everything` is set. A file that
    cannot be written is complained about once on stderr, and is tried again with every record.
    """

    def __init__(
        self,
        path: Path,
        *,
        known: Callable[[], Known] = lambda: NOTHING_KNOWN,
        max_bytes: int = MAX_BYTES,
        kept: int = KEPT,
    ) -> None:
        super().__init__()
        self.path = path
        self.everything = False
        self._max_bytes = max_bytes
        self._kept = kept
        self._descriptor: int | None = None
        self._complained = False
        self.addFilter(self._wanted)
        self.addFilter(Redaction(known))
        self.setFormatter(Line())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(f"{self.format(record)}\n".encode(errors="replace"))
            self._complained = False
        except OSError as error:
            self._shut()
            if not self._complained:
                self._complained = True
                reason = error.strerror or type(error).__name__
                print(f"The log {self.path} cannot be written: {reason}.", file=sys.stderr)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        with self.lock or contextlib.nullcontext():
            self._shut()
        super().close()

    def _wanted(self, record: logging.LogRecord) -> bool:
        if _is_invitation(record):
            return False
        return self.everything or record.levelno >= logging.WARNING or _is_ours(record.name)

    def _write(self, line: bytes) -> None:
        descriptor = self._open()
        size = os.fstat(descriptor).st_size
        if size and size + len(line) > self._max_bytes:
            self._turn_over(descriptor)
            self._shut()
            descriptor = self._open()
        os.write(descriptor, line)

    def _open(self) -> int:
        """The open file; opened anew if another process turned it over, or somebody moved it away."""
        if self._descriptor is not None and not _is_open_at(self._descriptor, self.path):
            self._shut()
        if self._descriptor is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            if os.name == "posix" and os.fstat(self._descriptor).st_mode & 0o077:
                os.fchmod(self._descriptor, 0o600)
        return self._descriptor

    def _turn_over(self, descriptor: int) -> None:
        with _alone(descriptor):
            if not _is_open_at(descriptor, self.path):
                return  # another process was faster
            if os.name == "nt":
                self._shut()  # an open file cannot be renamed there
            for generation in range(self._kept, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    self._generation(generation - 1).replace(self._generation(generation))

    def _generation(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}") if number else self.path

    def _shut(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None


def log_path(settings: Settings) -> Path:
    """The log file that the settings mean."""
    return settings.logging.file or paths.state_folder() / FILE


class Log:
    """The log of this process: `open` begins it, `use` follows the settings, `close` ends it.

    The guard stays when the log ends, because mitmproxy goes on logging.
    """

    def __init__(self, known: Callable[[], Known] = lambda: NOTHING_KNOWN) -> None:
        self._known = known
        self._file: LogFile | None = None

    def open(self) -> None:
        """Puts the guard before all handlers there are and will be. One is enough, the newest counts."""
        root = logging.getLogger()
        for handler in [each for each in root.handlers if isinstance(each, Guard)]:
            root.removeHandler(handler)
        root.handlers.insert(0, Guard(self._known))
        for name in TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)

    def use(self, settings: Settings) -> None:
        """Level and file as the settings say, from now on."""
        level, path = settings.logging.level, log_path(settings)
        for name in OURS:
            logging.getLogger(name).setLevel(LEVELS[level])
        if self._file is None or self._file.path != path:
            self._remove_file()
            self._file = LogFile(path, known=self._known)
            # Before the guard, which has trace records go on as debug ones.
            logging.getLogger().handlers.insert(0, self._file)
        self._file.everything = level == "trace"

    def close(self) -> None:
        self._remove_file()

    def _remove_file(self) -> None:
        if self._file is not None:
            logging.getLogger().removeHandler(self._file)
            self._file.close()
            self._file = None


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in OURS


def _is_invitation(record: logging.LogRecord) -> bool:
    """mitmweb telling its user the address of its pages: the one secret that a terminal has to show. It is not
    for the file.
    """
    return record.name == "mitmproxy.tools.web.master" and str(record.msg).startswith(
        "Web server listening at"
    )


def _text_of(record: logging.LogRecord) -> str:
    """Message, traceback and stack as one text. A message that does not fit its arguments is shown all the same."""
    try:
        text = record.getMessage()
    except Exception:
        text = f"{record.msg} {record.args!r}"
    parts = [text]
    if record.exc_info:
        parts.append(logging.Formatter().formatException(record.exc_info))
    elif record.exc_text:
        parts.append(record.exc_text)
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)


def _bounded(text: str, known: Known) -> str:
    # Cut twice: the first cut may have split a secret, and then the second one takes the rest of it away.
    clean = redact(text[: 2 * MAX_TEXT], known)
    if len(text) <= 2 * MAX_TEXT and len(clean) <= MAX_TEXT:
        return clean
    return f"{clean[:MAX_TEXT]}… ({len(text)} characters)"


def _is_open_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _alone(descriptor: int) -> Iterator[None]:
    """One process at a time, where the system can do that."""
    if sys.platform == "win32":
        yield
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)

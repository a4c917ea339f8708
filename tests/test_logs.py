"""The log: levels, file, rotation, and a filter that no call site and no handler gets around."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mitmproxy.log import MitmFormatter

from accounts import logs
from accounts.logs import LEVELS, TRACE, Guard, Line, Log, LogFile, Redaction, log_path
from accounts.redaction import GONE, Known
from accounts.settings import LoggingSettings, Settings
from addon.logs import Logs
from tests.test_redaction import by_form, cookies, parts, prose

OUR_LOGGER = "addon.some_feature"


def chosen(level: str, file: Path) -> Settings:
    return Settings(logging=LoggingSettings(level=level, file=file))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Begins a log at a level and gives its file."""
    logging.getLogger().setLevel(logging.DEBUG)  # as mitmproxy does
    one = Log()
    one.open()

    def use(level: str) -> Path:
        one.use(chosen(level, tmp_path / "logs" / "x.log"))
        return tmp_path / "logs" / "x.log"

    yield use
    one.close()


def written(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


class TestLevels:
    @pytest.mark.parametrize("level", LEVELS)
    def test_a_level_lets_through_itself_and_what_is_worse(
        self, log: Callable[[str], Path], level: str
    ) -> None:
        file = log(level)
        for each in LEVELS.values():
            logging.getLogger(OUR_LOGGER).log(each, "%s", each)
        assert [line.split()[-1] for line in written(file)] == [
            str(each) for each in LEVELS.values() if each >= LEVELS[level]
        ]

    def test_it_changes_live(self, log: Callable[[str], Path]) -> None:
        file = log("error")
        logging.getLogger(OUR_LOGGER).info("not yet")
        log("info")
        logging.getLogger(OUR_LOGGER).info("now")
        log("warn")
        logging.getLogger(OUR_LOGGER).info("no more")
        (line,) = written(file)
        assert line.endswith("now")

    def test_of_others_only_warnings_are_kept(self, log: Callable[[str], Path]) -> None:
        file = log("debug")
        logging.getLogger("mitmproxy.proxy").info("client connect")
        logging.getLogger("mitmproxy.proxy").warning("strange")
        assert [line.split(" ", 1)[1] for line in written(file)] == ["WARNING [mitmproxy.proxy] strange"]

    def test_trace_keeps_everything(self, log: Callable[[str], Path]) -> None:
        file = log("trace")
        logging.getLogger("mitmproxy.proxy").info("client connect")
        logging.getLogger(OUR_LOGGER).log(TRACE, "fine")
        assert [line.split(" ", 1)[1] for line in written(file)] == [
            "INFO [mitmproxy.proxy] client connect",
            "TRACE [some_feature] fine",
        ]

    def test_libraries_that_quote_what_they_store_stay_quiet(self, log: Callable[[str], Path]) -> None:
        file = log("trace")
        logging.getLogger("sqlalchemy").debug("insert into accounts values …")
        assert written(file) == []

    def test_mitmproxy_sees_a_trace_record_as_a_debug_one(self, log: Callable[[str], Path]) -> None:
        log("trace")
        seen: list[logging.LogRecord] = []
        other = logging.Handler()
        other.emit = seen.append  # type: ignore[method-assign]
        logging.getLogger().addHandler(other)
        logging.getLogger(OUR_LOGGER).log(TRACE, "fine")
        assert [record.levelno for record in seen] == [logging.DEBUG]


class TestFile:
    def handler(self, path: Path, **values: Any) -> tuple[logging.Logger, LogFile]:
        handler = LogFile(path, **values)
        logger = logging.Logger("addon.x")
        logger.addHandler(handler)
        return logger, handler

    def test_a_line(self, tmp_path: Path) -> None:
        logger, _ = self.handler(tmp_path / "x.log")
        logger.warning("main → %s", "work", extra={"usage": {"input_tokens": 5}})
        (line,) = written(tmp_path / "x.log")
        moment, level, channel, text = line.split(" ", 3)
        assert (level, channel) == ("WARNING", "[x]")
        assert text == 'main → work {"usage": {"input_tokens": 5}}'
        assert moment.endswith("Z")
        assert len(moment) == len("2026-11-27T10:00:00.000Z")

    def test_a_message_cannot_forge_a_line(self, tmp_path: Path) -> None:
        logger, _ = self.handler(tmp_path / "x.log")
        logger.warning("one\n2026-11-27T10:00:00.000Z ERROR [x] two")
        assert written(tmp_path / "x.log")[1].startswith("    2026")

    @pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
    def test_it_is_nobody_elses_to_read(self, tmp_path: Path) -> None:
        file = tmp_path / "new" / "x.log"
        logger, handler = self.handler(file)
        logger.warning("x")
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.stat().st_mode & 0o777 == 0o700
        handler.close()
        file.chmod(0o644)
        logger.warning("x")
        assert file.stat().st_mode & 0o777 == 0o600

    def test_it_turns_over_and_keeps_three(self, tmp_path: Path) -> None:
        file = tmp_path / "x.log"
        logger, _ = self.handler(file, max_bytes=500)
        for number in range(100):
            logger.warning("%03d %s", number, "x" * 100)
        files = sorted(path.name for path in tmp_path.iterdir())
        assert files == ["x.log", "x.log.1", "x.log.2", "x.log.3"]
        assert all((tmp_path / name).stat().st_size <= 500 for name in files)
        lines = [line for name in reversed(files) for line in written(tmp_path / name)]
        numbers = [int(line.split()[3]) for line in lines]
        assert numbers == list(range(numbers[0], 100))  # nothing lost in between

    def test_a_line_that_is_larger_than_the_file_may_be_is_written_all_the_same(self, tmp_path: Path) -> None:
        logger, _ = self.handler(tmp_path / "x.log", max_bytes=50)
        logger.warning("x" * 100)
        assert "x" * 100 in written(tmp_path / "x.log")[0]

    def test_two_processes_share_it(self, tmp_path: Path) -> None:
        file = tmp_path / "x.log"
        one, _ = self.handler(file, max_bytes=500)
        two, _ = self.handler(file, max_bytes=500)
        for number in range(40):
            (one, two)[number % 2].warning("%03d %s", number, "x" * 100)
        lines = [line for path in sorted(tmp_path.iterdir(), reverse=True) for line in written(path)]
        numbers = [int(line.split()[3]) for line in lines]
        assert numbers == list(range(numbers[0], 40))
        assert file.stat().st_size <= 500

    def test_a_file_that_was_moved_away_is_begun_anew(self, tmp_path: Path) -> None:
        file = tmp_path / "x.log"
        logger, _ = self.handler(file)
        logger.warning("one")
        file.rename(tmp_path / "elsewhere")
        logger.warning("two")
        assert [line.split()[-1] for line in written(file)] == ["two"]

    def test_a_log_that_cannot_be_written_says_so_once_and_stops_nothing(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "folder").write_text("a file where a folder has to be")
        logger, _ = self.handler(tmp_path / "folder" / "x.log")
        logger.warning("one")
        logger.warning("two")
        (line,) = capsys.readouterr().err.splitlines()
        assert "cannot be written" in line

    def test_a_message_that_does_not_fit_its_arguments_is_shown(self, tmp_path: Path) -> None:
        logger, _ = self.handler(tmp_path / "x.log")
        logger.warning("%d pieces", "sk-abcdef")
        assert f"%d pieces ('{GONE}',)" in written(tmp_path / "x.log")[0]

    def test_a_body_that_somebody_logs_is_cut(self, tmp_path: Path) -> None:
        logger, _ = self.handler(tmp_path / "x.log")
        logger.warning("x" * 1_000_000)
        (line,) = written(tmp_path / "x.log")
        assert len(line) < 2 * logs.MAX_TEXT
        assert line.endswith("… (1000000 characters)")

    def test_its_place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_AUTH_HOME", str(tmp_path))
        assert log_path(Settings()) == tmp_path / "openai-auth.log"
        assert log_path(chosen("info", tmp_path / "y")) == tmp_path / "y"


secrets = st.one_of(by_form, cookies.map("Cookie: {}".format))
places = st.sampled_from(
    ["message", "argument", "mapping", "data", "exception", "cause", "extra", "extra data", "stack"]
)


class Failure(Exception):
    """An exception that quotes what it was given."""


def call_site(logger: logging.Logger, place: str, secret: str, words: str) -> None:
    """Somebody who logs and does not think of secrets."""
    text = f"{words} {secret} {words}"
    try:
        match place:
            case "message":
                logger.warning(text.replace("%", "%%"))
            case "argument":
                logger.warning("%s and %r", text, [text])
            case "mapping":
                logger.warning("%(a)s", {"a": text})
            case "data":
                logger.warning("headers: %s", {"x": text, "y": (text.encode(), {text})})
            case "exception":
                raise Failure(text)
            case "cause":
                try:
                    raise Failure(text)
                except Failure as error:
                    raise RuntimeError("because") from error
            case "extra":
                logger.warning("x", extra={"note": text})
            case "extra data":
                logger.warning("x", extra={"note": {"a": [text, Failure(text)], text: 1}})
            case "stack":
                logger.warning("%s", text, stack_info=True)
    except (Failure, RuntimeError):
        logger.exception("it failed: %s", words)


class TestRedaction:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(secret=secrets, place=places, words=prose)
    def test_nothing_gets_through_the_file(self, tmp_path: Path, secret: str, place: str, words: str) -> None:
        file = tmp_path / "x.log"
        file.unlink(missing_ok=True)
        handler = LogFile(file)
        logger = logging.Logger("addon.x")
        logger.addHandler(handler)
        call_site(logger, place, secret, words)
        handler.close()
        text = file.read_text()
        assert GONE in text
        for part in parts(secret.removeprefix("Cookie: ")):
            assert part not in text

    @given(secret=secrets, place=places, words=prose)
    def test_nothing_gets_through_mitmproxys_own_handlers(self, secret: str, place: str, words: str) -> None:
        out = io.StringIO()
        terminal = logging.StreamHandler(out)
        terminal.setFormatter(MitmFormatter(colorize=False))
        logger = logging.Logger("anybody")
        logger.handlers = [Guard(), terminal]
        call_site(logger, place, secret, words)
        for part in parts(secret.removeprefix("Cookie: ")):
            assert part not in out.getvalue()

    def test_a_handler_that_comes_later_is_covered_too(self, log: Callable[[str], Path]) -> None:
        log("info")
        out = io.StringIO()
        logging.getLogger().addHandler(logging.StreamHandler(out))
        logging.getLogger("somebody.else").error("key sk-abcdefgh")
        assert out.getvalue() == f"key {GONE}\n"

    def test_opening_again_leaves_one_guard_in_front(self, log: Callable[[str], Path]) -> None:
        Log().open()
        guards = [isinstance(handler, Guard) for handler in logging.getLogger().handlers]
        assert guards == [True] + [False] * (len(guards) - 1)

    def test_account_ids_of_any_form_are_asked_for_at_every_record(self) -> None:
        known = [Known(["acct-number-one"])]
        redaction = Redaction(lambda: known[0])
        for word, left in (("acct-number-one", GONE), ("acct-number-two", "acct-number-two")):
            record = logging.makeLogRecord({"msg": f"{word} is limited"})
            redaction.filter(record)
            assert record.getMessage() == f"{left} is limited"
        known[0] = Known(["acct-number-two"])
        record = logging.makeLogRecord({"msg": "acct-number-two"})
        redaction.filter(record)
        assert record.getMessage() == GONE

    def test_the_proxys_log_asks_for_its_tokens_and_keys(self, tmp_path: Path) -> None:
        secrets = frozenset({"a-key-without-a-form"})
        services: Any = SimpleNamespace(pool=SimpleNamespace(secrets=lambda: secrets))
        options: Any = SimpleNamespace(current=chosen("info", tmp_path / "x.log"), changed=[])
        addon = Logs(options, services)
        addon.load(None)  # type: ignore[arg-type]
        logging.getLogger("addon.x").warning("refused a-key-without-a-form")
        secrets = frozenset({"another-one"})
        logging.getLogger("addon.x").warning("refused another-one")
        addon.done()
        assert [line.split("] ")[1] for line in written(tmp_path / "x.log")] == [f"refused {GONE}"] * 2

    def test_what_mitmproxy_puts_on_a_record_keeps_its_type(self) -> None:
        record = logging.makeLogRecord({"msg": "client connect", "client": ("127.0.0.1", 5000)})
        Redaction().filter(record)
        assert MitmFormatter(colorize=False).format(record).endswith("[127.0.0.1:5000] client connect")

    def test_the_address_of_mitmwebs_pages_is_for_the_terminal_only(self, log: Callable[[str], Path]) -> None:
        """Its token is how the user gets in."""
        file = log("trace")
        out = io.StringIO()
        logging.getLogger().addHandler(logging.StreamHandler(out))
        web = logging.getLogger("mitmproxy.tools.web.master")
        web.info("Web server listening at http://127.0.0.1:8081/?token=abcdef0123456789")
        web.info("Something else with token=abcdef0123456789")
        first, second = out.getvalue().splitlines()
        assert first.endswith("?token=abcdef0123456789")
        assert second.endswith(f"token={GONE}")
        assert [line.split("] ")[1] for line in written(file)] == [f"Something else with token={GONE}"]

    def test_a_record_is_worked_on_once(self) -> None:
        asked: list[None] = []

        def known() -> Known:
            asked.append(None)
            return Known()

        record = logging.makeLogRecord({"msg": "x"})
        for _ in range(3):
            Redaction(known).filter(record)
        assert len(asked) == 1

    def test_the_traceback_stays_readable(self) -> None:
        try:
            raise Failure("token=abc")
        except Failure:
            record = logging.makeLogRecord(
                {"name": "x", "msg": "failed", "exc_info": sys.exc_info(), "levelname": "ERROR"}
            )
        Redaction().filter(record)
        lines = Line().format(record).splitlines()
        assert lines[1] == "    Traceback (most recent call last):"
        assert lines[-1] == f"    tests.test_logs.Failure: token={GONE}"

    def test_extras_are_json(self) -> None:
        record = logging.makeLogRecord(
            {"name": "x", "msg": "x", "usage": {"input_tokens": 5, "token": "abc", "when": Path("/x")}}
        )
        Redaction().filter(record)
        tail = Line().format(record).partition("] x ")[2]
        assert json.loads(tail) == {"usage": {"input_tokens": 5, "token": GONE, "when": "/x"}}

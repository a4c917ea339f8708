"""The settings file: live, strict, keeping what was good; and written without losing anything."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from accounts import settings_file
from accounts.settings_file import SettingsFile, read_document, write_settings
from accounts.settings_sources import SettingsError, load


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "openai-auth.json"


def opened(path: Path, environ: dict[str, str] | None = None) -> SettingsFile:
    return SettingsFile(path, environ=environ or {})


class TestLive:
    def test_no_file_means_defaults(self, path: Path) -> None:
        assert opened(path).current.web_search is True

    def test_a_file_that_appears_is_seen(self, path: Path) -> None:
        file = opened(path)
        assert file.reload_if_changed() is False
        path.write_text('{"webSearch": false}')
        assert file.reload_if_changed() is True
        assert file.current.web_search is False
        assert file.reload_if_changed() is False

    def test_a_replaced_file_of_the_same_size_and_time_is_seen(self, path: Path, tmp_path: Path) -> None:
        path.write_text('{"dump": true }')
        os.utime(path, (1, 1))
        file = opened(path)
        (tmp_path / "new").write_text('{"dump": false}')
        os.utime(tmp_path / "new", (1, 1))
        (tmp_path / "new").replace(path)
        assert file.reload_if_changed() is True
        assert file.current.dump is False

    @pytest.mark.parametrize(
        "edit", ["{", '{"dump": "x"}', '{"nonsense": 1}', "[]", '{"dump":true,"dump":false}']
    )
    def test_a_wrong_edit_keeps_the_last_good_settings_and_says_why(self, path: Path, edit: str) -> None:
        path.write_text('{"webSearch": false}')
        file = opened(path)
        path.write_text(edit)
        assert file.reload_if_changed() is True
        assert file.current.web_search is False
        assert str(path) in str(file.problems[0])
        path.write_text('{"webSearch": true}')
        assert file.reload_if_changed() is True
        assert file.current.web_search is True
        assert file.problems == ()

    def test_a_file_that_vanishes_for_a_moment_changes_nothing(self, path: Path) -> None:
        path.write_text('{"dump": true}')
        file = opened(path)
        path.unlink()
        assert file.reload_if_changed() is False
        path.write_text('{"dump": true}')
        file.reload_if_changed()
        assert file.current.dump is True

    def test_a_file_that_stays_away_means_defaults(self, path: Path) -> None:
        path.write_text('{"dump": true}')
        file = opened(path)
        path.unlink()
        assert [file.reload_if_changed(), file.reload_if_changed()] == [False, True]
        assert file.current.dump is False

    def test_a_file_that_is_wrong_at_the_start_is_an_error(self, path: Path) -> None:
        path.write_text('{"killswitch": {"enabld": true}}')
        with pytest.raises(
            SettingsError, match=r"killswitch\.enabld: there is no such setting; did you mean enabled"
        ):
            opened(path)

    def test_ignored_variables_are_problems_too(self, path: Path) -> None:
        (warning,) = opened(path, {"OPENAI_AUTH_DUMP": "x"}).problems
        assert warning.key == "OPENAI_AUTH_DUMP"

    def test_a_change_without_effect_is_no_change(self, path: Path) -> None:
        file = opened(path)
        path.write_text('{"webSearch": true}')
        assert file.reload_if_changed() is False


class TestOptions:
    def test_are_taken_over_at_once(self, path: Path) -> None:
        file = opened(path)
        file.use_options({"codex_dump": "on"})
        assert file.current.dump is True
        file.use_options({})
        assert file.current.dump is False

    def test_stay_when_the_file_changes(self, path: Path) -> None:
        file = opened(path)
        file.use_options({"codex_dump": "on"})
        path.write_text('{"dump": false, "webSearch": false}')
        file.reload_if_changed()
        assert (file.current.dump, file.current.web_search) == (True, False)

    def test_a_wrong_one_changes_nothing(self, path: Path) -> None:
        file = opened(path)
        file.use_options({"codex_dump": "on"})
        with pytest.raises(SettingsError, match="codex_dump"):
            file.use_options({"codex_dump": "x"})
        path.write_text('{"webSearch": false}')
        file.reload_if_changed()
        assert file.current.dump is True

    def test_can_be_set_while_the_file_is_wrong(self, path: Path) -> None:
        path.write_text('{"webSearch": false}')
        file = opened(path)
        path.write_text("{")
        file.reload_if_changed()
        file.use_options({"codex_dump": "on"})
        assert (file.current.dump, file.current.web_search) == (True, False)
        assert file.problems


class TestReading:
    @pytest.mark.parametrize("text", ["", " \n", "{}", "\ufeff{}"])
    def test_nothing_in_it(self, path: Path, text: str) -> None:
        path.write_text(text, "utf-8")
        assert read_document(path) == {}

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b'{\n"a" 1}', "line 2: is not JSON: Expecting ':' delimiter"),
            (b"// no comments\n{}", "line 1: is not JSON"),
            (b"[1]", r"file: allowed: a JSON object"),
            (b'{"quota": {"poll": true, "poll": false}}', "poll: is there twice"),
            (b"\xff\xfe", "file: cannot be read: not UTF-8"),
        ],
    )
    def test_says_what_is_wrong(self, path: Path, content: bytes, message: str) -> None:
        path.write_bytes(content)
        with pytest.raises(SettingsError, match=message):
            read_document(path)

    def test_a_folder_in_its_place(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="cannot be read"):
            read_document(tmp_path)


class TestWriting:
    def test_keeps_everything_else_in_its_order(self, path: Path) -> None:
        path.write_text(
            '{"version": 1, "accounts": [{"id": "x"}], "webSearch": true, "dump": {"enabled": false}}'
        )
        write_settings(path, {"webSearch": "off"})
        assert (
            path.read_text()
            == json.dumps(
                {"version": 1, "accounts": [{"id": "x"}], "webSearch": False, "dump": {"enabled": False}},
                indent=2,
            )
            + "\n"
        )

    @pytest.mark.parametrize(
        ("key", "value", "written"),
        [
            ("webSearch", "off", {"webSearch": False}),
            ("codex_web_search", "yes", {"webSearch": True}),
            ("quota.checkIntervalMinutes", "10", {"quota": {"checkIntervalMinutes": 10}}),
            ("killswitch.main", "5,10", {"killswitch": {"main": {"primary": 5, "secondary": 10}}}),
            ("fallbackOn", "401,429", {"fallbackOn": [401, 429]}),
            ("modelAliases", "a=b", {"modelAliases": {"a": "b"}}),
            ("routing.mode", "fallback-first", {"routing": {"mode": "fallback-first"}}),
            ("dumpDir", "/tmp/d", {"dumpDir": "/tmp/d"}),
            ("killswitch.enabled", True, {"killswitch": {"enabled": True}}),
            ("OPENAI_AUTH_NO_WEB_SEARCH", "1", {"webSearch": False}),
            ("cortexkit_openai_auth_no_web_search", "off", {"webSearch": True}),
            ("OPENAI_AUTH_DUMP", "1", {"dump": True}),
            ("logging.file", " ", {"logging": {}}),
        ],
    )
    def test_text_becomes_json(self, path: Path, key: str, value: object, written: object) -> None:
        write_settings(path, {key: value})
        assert json.loads(path.read_text()) == written

    def test_none_removes_the_entry(self, path: Path) -> None:
        path.write_text('{"webSearch": false, "dump": true}')
        write_settings(path, {"webSearch": None})
        assert json.loads(path.read_text()) == {"dump": True}

    def test_dump_stays_an_object_where_it_is_one(self, path: Path) -> None:
        path.write_text('{"dump": {"enabled": false}}')
        write_settings(path, {"dump": "on"})
        assert json.loads(path.read_text()) == {"dump": {"enabled": True}}

    def test_several_that_only_fit_together(self, path: Path) -> None:
        write_settings(path, {"cachekeep.startHour": "9", "cachekeep.endHour": "18"})
        assert json.loads(path.read_text()) == {"cachekeep": {"startHour": 9, "endHour": 18}}

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"webSerch": "on"}, "did you mean webSearch"),
            ({"webSearch": "perhaps"}, 'found "perhaps"'),
            ({"cachekeep.startHour": "9"}, "startHour and endHour together"),
            ({"dump": "on", "connectTimeout": "-1"}, "greater than 0"),
        ],
    )
    def test_a_wrong_value_leaves_the_file_as_it_was(
        self, path: Path, changes: dict[str, object], message: str
    ) -> None:
        path.write_text('{"webSearch":true}')
        with pytest.raises(SettingsError, match=message):
            write_settings(path, changes)
        assert path.read_text() == '{"webSearch":true}'
        assert list(path.parent.iterdir()) == [path]

    def test_one_of_several_errors_can_be_corrected(self, path: Path) -> None:
        path.write_text('{"webSearch": "x", "dump": "y"}')
        write_settings(path, {"dump": "on"})
        assert json.loads(path.read_text()) == {"webSearch": "x", "dump": True}

    def test_what_is_not_json_is_not_overwritten(self, path: Path) -> None:
        path.write_text("{broken")
        with pytest.raises(SettingsError, match="is not JSON"):
            write_settings(path, {"dump": "on"})
        assert path.read_text() == "{broken"

    def test_a_new_file_is_for_its_owner_and_an_old_one_keeps_its_mode(self, path: Path) -> None:
        write_settings(path, {"dump": "on"})
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o644)
        write_settings(path, {"dump": "off"})
        assert stat.S_IMODE(path.stat().st_mode) == 0o644

    def test_a_link_stays_a_link(self, path: Path, tmp_path: Path) -> None:
        target = tmp_path / "dotfiles.json"
        target.write_text("{}")
        path.symlink_to(target)
        write_settings(path, {"dump": "on"})
        assert path.is_symlink()
        assert json.loads(target.read_text()) == {"dump": True}

    def test_missing_folders_are_made(self, tmp_path: Path) -> None:
        write_settings(tmp_path / "a" / "b.json", {"dump": "on"})
        assert (tmp_path / "a" / "b.json").exists()

    def test_a_change_by_another_process_in_between_is_not_lost(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        replace = settings_file._replace
        calls: list[None] = []

        def interrupted(*args: object, **kwargs: object) -> bool:
            calls.append(None)
            if len(calls) == 1:
                path.write_text('{"webSearch": false}')
            return replace(*args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(settings_file, "_replace", interrupted)
        write_settings(path, {"dump": "on"})
        assert json.loads(path.read_text()) == {"webSearch": False, "dump": True}

    def test_a_reader_never_sees_half_a_file(self, path: Path) -> None:
        write_settings(path, {"dump": "off"})
        done = threading.Event()
        broken: list[str] = []

        def read() -> None:
            while not done.is_set():
                try:
                    read_document(path)
                except SettingsError as error:
                    broken.append(str(error))

        reader = threading.Thread(target=read)
        reader.start()
        for turn in range(30):
            write_settings(path, {"dump": "on" if turn % 2 else "off"})
        done.set()
        reader.join()
        assert broken == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["webSearch", "quota", "killswitch", "cachekeep", "dump", "fallbackOn", "modelAliases"]
)


@hypothesis_settings(deadline=None)
@given(st.dictionaries(KEYS | st.text(max_size=9), JSON, max_size=5))
def test_any_json_is_either_settings_or_a_settings_error(document: dict[str, object]) -> None:
    with contextlib.suppress(SettingsError):
        load(environ={}, document=document)

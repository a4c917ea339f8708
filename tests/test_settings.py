"""Settings: names, sources and their order, what each kind of value may be, and what a wrong one is answered with."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from accounts import paths
from accounts.setting_types import NO, YES, Thresholds
from accounts.settings import Settings
from accounts.settings_sources import Kind, SettingsError, find, load
from accounts.settings_table import describe, leaves, markdown, shown

ROOT = Path(__file__).parent.parent


def loaded(
    options: dict[str, object] | None = None,
    environ: dict[str, str] | None = None,
    document: dict[str, Any] | None = None,
) -> Settings:
    return load(options=options, environ=environ or {}, document=document).settings


def problem(document: dict[str, Any]) -> str:
    """The one complaint about a file."""
    with pytest.raises(SettingsError) as caught:
        load(environ={}, document=document, file="f.json")
    assert len(caught.value.problems) == 1
    return str(caught.value)


def read_attributes() -> set[str]:
    """Names of attributes that the program looks at, apart from how settings are written and shown."""
    sources = [
        path
        for package in ("addon", "accounts", "certs")
        for path in (ROOT / package).rglob("*.py")
        if not path.name.startswith("settings_")
    ]
    nodes = (node for path in sources for node in ast.walk(ast.parse(path.read_text())))
    return {node.attr for node in nodes if isinstance(node, ast.Attribute)}


class TestPrecedence:
    """Option, then environment, then file, then default; each row says what is set where, and what wins."""

    @pytest.mark.parametrize(
        ("option", "variable", "file", "mode", "origin"),
        [
            (None, None, None, "main-first", "default"),
            (None, None, "fallback-first", "fallback-first", "file openai-auth.json"),
            (None, "main-first", "fallback-first", "main-first", "environment OPENAI_AUTH_ROUTING_MODE"),
            (
                "sticky-balanced",
                "main-first",
                "fallback-first",
                "sticky-balanced",
                "option codex_routing_mode",
            ),
            ("sticky-balanced", None, "fallback-first", "sticky-balanced", "option codex_routing_mode"),
            ("sticky-balanced", None, None, "sticky-balanced", "option codex_routing_mode"),
            (None, "", "fallback-first", "fallback-first", "file openai-auth.json"),
            ("", None, "fallback-first", "fallback-first", "file openai-auth.json"),
        ],
    )
    def test_strongest_source_wins(self, option, variable, file, mode: str, origin: str) -> None:
        found = load(
            options={} if option is None else {"codex_routing_mode": option},
            environ={} if variable is None else {"OPENAI_AUTH_ROUTING_MODE": variable},
            document={} if file is None else {"routing": {"mode": file}},
        )
        value, where = found.value_and_origin("routing.mode")
        assert (value, str(where)) == (mode, origin)
        assert found.settings.routing.mode == mode

    @pytest.mark.parametrize("variable", ["OPENAI_AUTH_", "CORTEXKIT_OPENAI_AUTH_", "OPENCODE_OPENAI_AUTH_"])
    @pytest.mark.parametrize(
        ("text", "file", "web_search"),
        [
            ("1", True, False),
            ("1", False, False),
            ("YES", True, False),
            ("0", False, True),
            ("off", False, True),
            ("", False, True),
            (None, False, False),
            ("perhaps", False, False),  # cannot be read: counts as not set
            ("perhaps", True, True),
        ],
    )
    def test_the_negative_web_search_variable_beats_the_file_both_ways(
        self, variable: str, text: str | None, file: bool, web_search: bool
    ) -> None:
        environ = {} if text is None else {f"{variable}NO_WEB_SEARCH": text}
        assert loaded(environ=environ, document={"webSearch": file}).web_search is web_search

    def test_an_option_beats_the_negative_variable(self) -> None:
        options: dict[str, object] = {"codex_web_search": "true"}
        assert loaded(options, {"OPENAI_AUTH_NO_WEB_SEARCH": "1"}).web_search is True

    def test_our_variable_beats_its_aliases(self) -> None:
        environ = {
            "CORTEXKIT_OPENAI_AUTH_DUMP": "1",
            "OPENAI_AUTH_DUMP": "0",
            "OPENCODE_OPENAI_AUTH_DUMP": "1",
        }
        assert loaded(environ=environ).dump is False

    def test_a_pair_is_taken_whole_from_one_source(self) -> None:
        found = loaded(
            environ={"OPENAI_AUTH_KILLSWITCH_MAIN": '{"primary": 1}'},
            document={"killswitch": {"main": {"primary": 50, "secondary": 60}}},
        )
        assert found.killswitch.main == Thresholds(primary=1, secondary=10)

    def test_accounts_thresholds_are_taken_whole_from_one_source(self) -> None:
        found = loaded(
            environ={"OPENAI_AUTH_KILLSWITCH_ACCOUNTS": "work:1,2"},
            document={"killswitch": {"accounts": {"home": {"primary": 50}}}},
        )
        assert dict(found.killswitch.accounts) == {"work": Thresholds(primary=1, secondary=2)}

    def test_other_settings_of_the_same_group_keep_their_source(self) -> None:
        found = load(
            environ={"OPENAI_AUTH_QUOTA_POLL": "off"}, document={"quota": {"checkIntervalMinutes": 9}}
        )
        assert found.settings.quota.poll is False
        assert found.settings.quota.check_interval_minutes == 9
        assert found.value_and_origin("quota.poll")[1].kind is Kind.ENVIRONMENT
        assert found.value_and_origin("quota.checkIntervalMinutes")[1].kind is Kind.FILE


class TestNames:
    @pytest.mark.parametrize(
        ("path", "variable"),
        [
            ("webSearch", "NO_WEB_SEARCH"),
            ("webSockets", "WEBSOCKETS"),
            ("rawWebSocket", "RAW_WS"),
            ("responsesLite", "RESPONSES_LITE"),
            ("dump", "DUMP"),
            ("dumpDir", "DUMP_DIR"),
            ("codexApiEndpoint", "CODEX_ENDPOINT"),
            ("backendUrl", "BACKEND_URL"),
            ("issuerUrl", "ISSUER_URL"),
            ("upstreamProxy", "UPSTREAM_PROXY"),
            ("logging.level", "LOG_LEVEL"),
            ("logging.file", "LOG_FILE"),
        ],
    )
    def test_documented_variables(self, path: str, variable: str) -> None:
        assert leaves()[path].variable == variable

    @pytest.mark.parametrize(
        "path",
        [
            "routing.mode",
            "fallbackOn",
            "refresh.enabled",
            "refresh.refreshBeforeExpiryMinutes",
            "quota.enabled",
            "quota.checkIntervalMinutes",
            "quota.minimumRemaining",
            "quota.failClosedOnUnknownQuota",
            "killswitch.enabled",
            "killswitch.main",
            "killswitch.accounts",
            "cachekeep.enabled",
            "cachekeep.subagents",
            "cachekeep.sustain",
            "cachekeep.startHour",
            "cachekeep.endHour",
            "costZeroing.enabled",
        ],
    )
    def test_documented_keys_of_the_file(self, path: str) -> None:
        assert path in leaves()

    def test_every_setting_has_one_name_of_each_sort_and_help(self) -> None:
        rows = describe()
        assert len({row.json_path for row in rows}) == len(rows)
        assert len({row.env for row in rows}) == len(rows)
        assert len({row.option for row in rows}) == len(rows)
        assert all(row.help and row.default for row in rows)
        assert all(row.option.startswith("codex_") and row.env.startswith("OPENAI_AUTH_") for row in rows)

    def test_every_default_can_be_written_by_its_own_name_everywhere(self) -> None:
        for row, leaf in zip(describe(), leaves().values(), strict=True):
            if leaf.default is None:
                continue
            text = shown(leaf.default)
            text = json.loads(text) if text.startswith('"') else text
            if leaf.negated:
                assert loaded(environ={row.env: "off"}) == Settings()
            else:
                assert loaded(environ={row.env: text}) == Settings()
            assert loaded({row.option: text}) == Settings()

    def test_every_setting_is_read_somewhere_or_said_to_be_without_effect(self) -> None:
        read = read_attributes()
        unread = {path for path, leaf in leaves().items() if not read.issuperset(leaf.attributes)}
        assert unread <= {path for path, leaf in leaves().items() if "(not built yet)" in leaf.help}

    def test_a_setting_is_found_by_any_of_its_names(self) -> None:
        names = ("webSearch", "WEBSEARCH", "codex_web_search", "OPENAI_AUTH_NO_WEB_SEARCH")
        assert {find(name).path for name in names} == {"webSearch"}

    def test_the_markdown_table_has_a_line_for_each(self) -> None:
        lines = markdown().splitlines()
        assert len(lines) == 2 + len(leaves())
        assert lines[2].startswith(
            "| `webSearch` | `OPENAI_AUTH_NO_WEB_SEARCH` | `codex_web_search` | `true` |"
        )


class TestValues:
    @pytest.mark.parametrize("word", sorted(YES))
    def test_yes(self, word: str) -> None:
        assert loaded(environ={"OPENAI_AUTH_DUMP": f" {word.upper()} "}).dump is True

    @pytest.mark.parametrize("word", sorted(NO))
    def test_no(self, word: str) -> None:
        found = loaded(environ={"OPENAI_AUTH_DUMP": word.title()}, document={"dump": True})
        assert found.dump is False

    @hypothesis_settings(deadline=None)
    @given(st.text())
    def test_any_other_word_counts_as_not_set_and_is_reported(self, word: str) -> None:
        found = load(environ={"OPENAI_AUTH_DUMP": word}, document={"dump": True})
        if word.strip().lower() in YES | NO:
            assert found.warnings == ()
        else:
            assert found.settings.dump is True
            assert found.warnings[0].key == "OPENAI_AUTH_DUMP"

    @pytest.mark.parametrize("dump", [True, {"enabled": True}, "on", 1])
    def test_dump_is_a_boolean_or_an_object(self, dump: object) -> None:
        assert loaded(document={"dump": dump}).dump is True

    @pytest.mark.parametrize(
        ("written", "pair"),
        [
            ({"primary": 1, "secondary": 2}, (1, 2)),
            ({"5h": 1, "1w": 2}, (1, 2)),
            ({"primary": 1, "5h": 9, "1w": 2}, (1, 2)),
            ({"primary": 1}, (1, 10)),
            ({"1w": 2}, (5, 2)),
            ({}, (5, 10)),
            ("1,2", (1, 2)),
            ("12.5, 0", (12.5, 0)),
        ],
    )
    def test_killswitch_thresholds_in_every_spelling(
        self, written: object, pair: tuple[float, float]
    ) -> None:
        main = loaded(document={"killswitch": {"main": written}}).killswitch.main
        assert (main.primary, main.secondary) == pair

    def test_a_missing_half_of_minimum_remaining_is_nothing(self) -> None:
        minimum = loaded(document={"quota": {"minimumRemaining": {"primary": 7}}}).quota.minimum_remaining
        assert (minimum.primary, minimum.secondary) == (7, 0)

    @hypothesis_settings(deadline=None)
    @given(
        st.dictionaries(
            st.text(st.characters(exclude_categories=("Cs",)), min_size=1),
            st.tuples(st.integers(0, 100), st.integers(0, 100)),
            max_size=4,
        )
    )
    def test_account_thresholds_read_back_as_written(self, pairs: dict[str, tuple[int, int]]) -> None:
        written = {name: {"primary": a, "secondary": b} for name, (a, b) in pairs.items()}
        found = loaded({"codex_killswitch_accounts": json.dumps(written)}).killswitch.accounts
        assert {name: (each.primary, each.secondary) for name, each in found.items()} == pairs

    def test_short_forms_of_lists_and_names(self) -> None:
        found = loaded(
            environ={
                "OPENAI_AUTH_FALLBACK_ON": "401, 429,402",
                "OPENAI_AUTH_MODEL_ALIASES": "gpt-4o = gpt-5.5,o3=gpt-5.5",
            }
        )
        assert found.fallback_on == (401, 429, 402)
        assert dict(found.model_aliases) == {"gpt-4o": "gpt-5.5", "o3": "gpt-5.5"}

    def test_addresses_lose_their_last_slash(self) -> None:
        found = loaded(environ={"OPENAI_AUTH_BACKEND_URL": "http://127.0.0.1:9/backend-api/"})
        assert found.responses_url == "http://127.0.0.1:9/backend-api/codex/responses"

    @pytest.mark.parametrize("host", ["localhost", "api.localhost", "127.0.0.2:9", "[::1]:9"])
    def test_what_stays_on_this_machine_needs_no_encryption(self, host: str) -> None:
        assert loaded(document={"openaiUrl": f"http://{host}"}).openai_url == f"http://{host}"

    def test_the_endpoint_replaces_only_the_responses_address(self) -> None:
        found = loaded(environ={"CORTEXKIT_OPENAI_AUTH_CODEX_ENDPOINT": "https://relay.example/r"})
        assert found.responses_url == "https://relay.example/r"
        assert found.backend_url == "https://chatgpt.com/backend-api"

    def test_a_home_folder_is_expanded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", "/home/someone")
        assert loaded(document={"dumpDir": "~/dumps"}).dump_folder == Path("/home/someone/dumps")

    def test_no_text_is_no_path(self) -> None:
        found = loaded(document={"logging": {"file": ""}, "dumpDir": " "})
        assert found.logging.file is None
        assert found.dump_dir is None

    def test_settings_never_change(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            Settings().web_search = False  # type: ignore[misc]


class TestWrongFiles:
    @pytest.mark.parametrize(
        ("document", "message"),
        [
            ({"webSerch": True}, "f.json: webSerch: there is no such setting; did you mean webSearch?"),
            ({"web_search": True}, "f.json: web_search: there is no such setting; did you mean webSearch?"),
            (
                {"quota": {"pol": True}},
                "f.json: quota.pol: there is no such setting; did you mean poll?",
            ),
            (
                {"zzz": 1},
                "f.json: zzz: there is no such setting; `openai-auth config` lists them all",
            ),
            (
                {"routing": {"mode": "fastest"}},
                'f.json: routing.mode: found "fastest"; '
                "allowed: 'main-first', 'fallback-first' or 'sticky-balanced'",
            ),
            (
                {"webSearch": "perhaps"},
                'f.json: webSearch: found "perhaps"; allowed: true or false (also 1/yes/on, 0/no/off/empty)',
            ),
            (
                {"webSearch": 2},
                "f.json: webSearch: found 2; allowed: true or false (also 1/yes/on, 0/no/off/empty)",
            ),
            ({"connectTimeout": 0}, "f.json: connectTimeout: found 0; allowed: greater than 0"),
            ({"connectTimeout": "soon"}, 'f.json: connectTimeout: found "soon"; allowed: a number'),
            ({"connectTimeout": True}, "f.json: connectTimeout: found true; allowed: a number"),
            ({"storeMaxCount": 1.5}, "f.json: storeMaxCount: found 1.5; allowed: a whole number"),
            (
                {"killswitch": {"main": {"primary": 101}}},
                "f.json: killswitch.main.primary: found 101; allowed: less than or equal to 100",
            ),
            (
                {"killswitch": {"accounts": {"work": {"weekly": 1}}}},
                "f.json: killswitch.accounts.work.weekly: there is no such key here",
            ),
            (
                {"killswitch": {"accounts": "work=5"}},
                'f.json: killswitch.accounts: found "work=5"; allowed: '
                '{"NAME": {"primary": 5, "secondary": 10}}, or as text NAME:5,10 OTHER:0,20',
            ),
            (
                {"refresh": True},
                "f.json: refresh: found true; allowed: an object with enabled, refreshBeforeExpiryMinutes",
            ),
            (
                {"upstreamProxy": "ftp://me:secret@host"},
                'f.json: upstreamProxy: found "ftp://***@host"; '
                "allowed: an address such as https://example.com/path",
            ),
            (
                {"upstreamProxy": "me:sec@r/et@host:3128"},
                'f.json: upstreamProxy: found "***@host:3128"; '
                "allowed: an address such as https://example.com/path",
            ),
            *(
                (
                    {key: "http://relay.example/v1"},
                    f'f.json: {key}: found "http://relay.example/v1"; allowed: https://…, '
                    "because logins or keys are sent there (http:// on this machine only)",
                )
                for key in ("backendUrl", "codexApiEndpoint", "issuerUrl", "openaiUrl")
            ),
            ({"fallbackOn": [200]}, "f.json: fallbackOn.0: found 200; allowed: greater than or equal to 400"),
            (
                {"identity": {"originator": "a\r\nb"}},
                'f.json: identity.originator: found "a\\r\\nb"; allowed: printable ASCII text',
            ),
            (
                {"cachekeep": {"startHour": 9}},
                'f.json: cachekeep: found {"startHour": 9}; allowed: startHour and endHour together, or neither',
            ),
            (
                {"cachekeep": {"startHour": 9, "endHour": 9}},
                'f.json: cachekeep: found {"startHour": 9, "endHour": 9}; '
                "allowed: a startHour that differs from endHour",
            ),
        ],
    )
    def test_the_message_names_file_key_found_and_allowed(
        self, document: dict[str, Any], message: str
    ) -> None:
        assert problem(document) == message

    def test_all_of_them_are_named_at_once(self) -> None:
        with pytest.raises(SettingsError) as caught:
            load(environ={}, document={"a": 1, "dump": "x", "quota": {"enabled": []}})
        assert len(str(caught.value).splitlines()) == 3

    def test_a_long_value_is_cut(self) -> None:
        assert len(problem({"routing": {"mode": "x" * 5000}})) < 300

    def test_the_plugins_own_keys_are_left_alone(self) -> None:
        document = {
            "version": 1,
            "main": {"type": "opencode", "provider": "openai"},
            "mainAccountId": "acc-main",
            "accounts": [{"id": "work"}],
            "reset": {"work": {}},
            "refresh": {"enabled": False, "intervalMinutes": 3},
            "quota": {"refreshEveryNRequests": 3, "showToasts": True},
        }
        assert loaded(document=document).refresh.enabled is False


class TestWrongOptionsAndVariables:
    def test_a_wrong_option_is_an_error(self) -> None:
        with pytest.raises(
            SettingsError, match='mitmproxy option: codex_dump: found "x"; allowed: true or false'
        ):
            load(options={"codex_dump": "x"}, environ={})

    def test_a_wrong_variable_is_reported_and_counts_as_not_set(self) -> None:
        found = load(environ={"OPENAI_AUTH_CONNECT_TIMEOUT": "soon"}, document={"connectTimeout": 3})
        assert found.settings.connect_timeout == 3
        assert str(found.warnings[0]) == (
            'environment: OPENAI_AUTH_CONNECT_TIMEOUT: found "soon"; allowed: a number'
        )

    def test_a_mistyped_variable_is_reported(self) -> None:
        (warning,) = load(environ={"OPENAI_AUTH_WEBSOKETS": "1"}).warnings
        assert str(warning) == (
            "environment: OPENAI_AUTH_WEBSOKETS: there is no such variable; did you mean OPENAI_AUTH_WEBSOCKETS?"
        )

    def test_variables_that_are_no_settings_are_not_reported(self) -> None:
        environ = {"OPENAI_AUTH_HOME": "/x", "OPENAI_AUTH_FILE": "/y", "CORTEXKIT_OPENAI_AUTH_OTHER": "1"}
        assert load(environ=environ).warnings == ()


class TestPaths:
    def test_one_folder_for_everything(self) -> None:
        environ = {"OPENAI_AUTH_HOME": "/portable"}
        assert paths.state_folder(environ) == Path("/portable")
        assert paths.settings_file(environ) == Path("/portable/openai-auth.json")

    @pytest.mark.parametrize("prefix", paths.PREFIXES)
    def test_the_settings_file_may_lie_elsewhere(self, prefix: str) -> None:
        environ = {"OPENAI_AUTH_HOME": "/portable", f"{prefix}FILE": "/etc/x.json"}
        assert paths.settings_file(environ) == Path("/etc/x.json")

    def test_the_platforms_folders_otherwise(self) -> None:
        assert paths.settings_file({}).name == "openai-auth.json"
        assert paths.state_folder({}) != paths.settings_file({}).parent
        assert paths.home({"OPENAI_AUTH_HOME": " "}) is None

    def test_mitmproxys_confdir(self) -> None:
        assert paths.mitmproxy_folder({}) == Path("~/.mitmproxy").expanduser()
        assert paths.mitmproxy_folder({"OPENAI_AUTH_CONFDIR": "/c"}) == Path("/c")

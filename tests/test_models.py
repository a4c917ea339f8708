"""The model list as clients see it: OpenAI's shape, the backend's own, prices, gates, names."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types import Model as SdkModel

from addon.protocol import codex_cli, models, routes, versions
from addon.protocol.built_in_models import MODELS
from addon.protocol.errors import Refused
from addon.protocol.models import Model

DEMANDED = {
    "slug",
    "display_name",
    "supported_reasoning_levels",
    "shell_type",
    "visibility",
    "supported_in_api",
    "priority",
    "support_verbosity",
    "truncation_policy",
    "experimental_supported_tools",
    "base_instructions",
}
"""Members without which a Codex program drops the whole list."""


def entry(slug: str = "gpt-9", **members: Any) -> dict[str, Any]:
    return {"slug": slug, "visibility": "list", "priority": 1} | members


def model(slug: str = "gpt-9", **members: Any) -> Model:
    return Model(slug, entry(slug, **members))


class TestReading:
    def test_an_answer_without_a_list_is_none(self) -> None:
        for answer in (None, [], {}, {"models": None}, {"data": []}, "models"):
            assert models.read(answer) is None

    def test_what_has_no_name_is_left_out_and_the_rest_stays(self) -> None:
        read = models.read({"models": [{}, None, 3, {"slug": ""}, {"slug": 4}, entry("a")]})
        assert read == (model("a"),)

    @pytest.mark.parametrize(
        ("levels", "efforts"),
        [
            ([{"effort": "low", "description": "x"}, {"effort": "high"}], ("low", "high")),
            (["low", "high"], ("low", "high")),
            ([{"effort": None}, {}, 3, "low"], ("low",)),
            (None, ()),
            ("low", ()),
        ],
    )
    def test_efforts(self, levels: object, efforts: tuple[str, ...]) -> None:
        assert model(supported_reasoning_levels=levels).efforts == efforts

    @pytest.mark.parametrize(
        ("given", "version"),
        [("0.153.0", "0.153.0"), ([0, 153, 0], "0.153.0"), (None, ""), ("soon", ""), ([], ""), (7, "")],
    )
    def test_the_minimal_version_is_a_text_or_three_numbers(self, given: object, version: str) -> None:
        assert model(minimal_client_version=given).minimal_version == version

    @pytest.mark.parametrize(
        ("plans", "plan", "offered"),
        [
            (["plus", "pro"], "plus", True),
            (["Plus"], "plus", True),
            (["plus"], "Plus", True),
            (["pro"], "free", False),
            (["pro"], None, True),
            ([], "free", True),
            (None, "free", True),
        ],
    )
    def test_the_plan_gate(self, plans: object, plan: str | None, offered: bool) -> None:
        assert model(available_in_plans=plans).offered_to(plan) is offered

    def test_a_union_has_each_model_once_in_the_order_of_priority(self) -> None:
        first = [model("b", priority=2), model("z", priority=None)]
        second = [model("a", priority=2), model("b", priority=9), model("c", priority=1)]
        union = models.union([first, second])
        assert [each.slug for each in union] == ["c", "a", "b", "z"]
        assert union[2] is first[0]


class TestOpenAiShape:
    def test_the_four_members_are_always_there(self) -> None:
        shown = models.openai_model(Model("x", {"slug": "x"}))
        assert shown == {"id": "x", "object": "model", "created": 0, "owned_by": "openai"}
        assert SdkModel.model_validate(shown, strict=True).id == "x"

    def test_limits_and_efforts_are_the_catalogues(self) -> None:
        levels = [{"effort": "low", "description": "fast"}]
        shown = models.openai_model(
            model(
                context_window=1000,
                max_context_window=2000,
                max_output_tokens=300,
                input_modalities=["text"],
                supported_reasoning_levels=levels,
                minimal_client_version=[0, 153, 0],
                base_instructions="You are Codex.",
                available_in_plans=["plus"],
            )
        )
        assert shown["context_window"] == 1000
        assert shown["max_context_window"] == 2000
        assert shown["max_output_tokens"] == 300
        assert shown["input_modalities"] == ["text"]
        assert shown["supported_reasoning_levels"] == levels
        assert shown["minimal_client_version"] == "0.153.0"
        assert "base_instructions" not in shown
        assert "available_in_plans" not in shown

    def test_only_listed_models_are_in_the_list(self) -> None:
        shown = models.openai_list(
            [model("a"), model("b", visibility="hide"), model("c", visibility="none"), Model("d", {})]
        )
        assert shown["object"] == "list"
        assert [each["id"] for each in shown["data"]] == ["a", "d"]

    def test_a_hidden_model_is_found_by_its_name_but_one_that_is_off_is_not(self) -> None:
        known = [model("a", visibility="hide"), model("b", visibility="none")]
        assert models.find(known, "a") is known[0]
        for name in ("b", "c", ""):
            with pytest.raises(Refused) as refused:
                models.find(known, name)
            failure = refused.value.failure
            assert (failure.status, failure.code, failure.param) == (404, "model_not_found", "model")
            assert failure.message == f"The model '{name}' does not exist or you do not have access to it."

    def test_an_alias_stands_beside_its_model_under_its_own_name(self) -> None:
        known = [model("a", context_window=5), model("b")]
        named = models.with_aliases(known, {"gpt-4o": "a", "b": "a", "lost": "nowhere"})
        assert [models.openai_model(each)["id"] for each in named] == ["a", "b", "gpt-4o"]
        assert [each.entry.get("context_window") for each in named] == [5, 5, 5]


class TestPrices:
    PRICING: dict[str, Any] = {  # noqa: RUF012
        "input": 1.25, "tiers": [{"output": "10.00"}], "currency": "USD", "estimated": True,
    }  # fmt: skip
    ZERO: dict[str, Any] = {  # noqa: RUF012
        "input": 0, "tiers": [{"output": "0"}], "currency": "USD", "estimated": True,
    }  # fmt: skip

    def test_prices_are_zero_in_both_shapes(self) -> None:
        priced = model(pricing=self.PRICING)
        assert models.openai_model(priced)["pricing"] == self.ZERO
        assert models.codex_list([priced])["models"][0]["pricing"] == self.ZERO
        assert priced.entry["pricing"] == self.PRICING

    def test_prices_stay_where_the_setting_says_so(self) -> None:
        priced = model(cost=self.PRICING)
        assert models.openai_model(priced, free=False)["cost"] == self.PRICING
        assert models.codex_list([priced], free=False)["models"][0]["cost"] == self.PRICING


class TestCodexShape:
    def test_entries_are_the_backends_own_hidden_ones_too(self) -> None:
        entries = [entry("a", base_instructions="x", anything={"new": 1}), entry("b", visibility="hide")]
        read = models.read({"models": entries})
        assert read
        assert models.codex_list(read) == {"models": entries}

    def test_the_built_in_entries_are_complete(self) -> None:
        for each in MODELS:
            assert set(each.entry) >= DEMANDED
            assert each.listed
            assert each.minimal_version
            assert each.entry["default_reasoning_level"] in each.efforts
        assert [each.priority for each in MODELS] == list(range(1, len(MODELS) + 1))

    @pytest.mark.parametrize(
        ("headers", "path", "wanted"),
        [
            ({"user-agent": "OpenAI/Python 3.54.0"}, "/v1/models", False),
            ({"user-agent": "codex_exec/0.169.0 (Debian 12)"}, "/v1/models", True),
            ({"user-agent": "codex-tui/0.169.0"}, "/v1/models", True),
            ({"originator": "Codex Desktop"}, "/v1/models", True),
            ({"originator": "opencode"}, "/v1/models", False),
            ({}, "/v1/models?client_version=0.169.0", True),
            ({}, "/v1/models?client_version", True),
            ({}, "/v1/models?after=client_version", False),
        ],
    )
    def test_who_gets_it(self, headers: dict[str, str], path: str, wanted: bool) -> None:
        assert codex_cli.wants_codex_list(headers, path) is wanted

    def test_a_version_header_is_the_codex_protocol_too(self) -> None:
        assert codex_cli.speaks_codex({"version": "0.169.0"})
        assert codex_cli.speaks_codex({"originator": "codex_cli_rs"})
        assert not codex_cli.speaks_codex({"user-agent": "curl/7.88", "x-stainless-package-version": "3"})


class TestVersions:
    @pytest.mark.parametrize(
        ("others", "newest"),
        [
            ([], "0.169.0"),
            (["0.170.0"], "0.170.0"),
            (["0.99.9", None, ""], "0.169.0"),
            (["0.170.0", "0.171.2", "0.171.1"], "0.171.2"),
            (["1.0"], "0.169.0"),
            (["9.9.9-beta", "٩.٠.٠", "9.9.9.9", "9." + "9" * 5000 + ".9"], "0.169.0"),
        ],
    )
    def test_the_newest_wins_and_what_is_no_version_never_does(
        self, others: list[str | None], newest: str
    ) -> None:
        assert versions.newest("0.169.0", others) == newest

    def test_numbers_are_compared_as_numbers(self) -> None:
        assert versions.is_newer("0.10.0", "0.9.0")
        assert not versions.is_newer("0.9.0", "0.9.0")
        assert versions.is_newer("0.9.0", "")


class TestRoutes:
    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("/v1/models/gpt-5.5", "gpt-5.5"),
            ("/models/gpt-5.5/", "gpt-5.5"),
            ("/v1/models/org/gpt-5.5?x=1", "org/gpt-5.5"),
            ("/v1/models/org%2Fgpt-5.5", "org/gpt-5.5"),
            ("/v1/models/ft%3Agpt", "ft:gpt"),
        ],
    )
    def test_a_model_is_named_by_the_rest_of_the_path(self, path: str, name: str) -> None:
        assert routes.match("GET", path) is routes.Route.MODEL
        assert routes.model_name(path) == name

    def test_the_list(self) -> None:
        for path in ("/v1/models", "/models/", "/v1/models?client_version=0.169.0"):
            assert routes.match("GET", path) is routes.Route.MODELS

    def test_other_methods_are_not_ours(self) -> None:
        assert routes.match("POST", "/v1/models") is None
        assert routes.match("DELETE", "/v1/models/ft:gpt") is None

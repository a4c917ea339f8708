"""What the stand-in backend refuses: every text once, over real sockets."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.codex_fake.client import Client, items_of, replayed, running, said, text_of
from tests.codex_fake.generation import zstd_decompress

Json = dict[str, Any]
TOOL: Json = {"type": "function", "name": "add", "strict": False, "parameters": {"type": "object"}}


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    async with running() as one:
        yield one


def message(role: str, content: Any, **more: Any) -> Json:
    return {"type": "message", "role": role, "content": content, **more}


CALL = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "3"}
USER = message("user", "hi")
MODEL_REFUSED = "The 'gpt-4o' model is not supported when using Codex with a ChatGPT account."
NOT_FOUND = (
    "Item with id '{}' not found. Items are not persisted when `store` is set to false. Try again with `store` "
    "set to true, or remove this item from your input."
)
PARTS = "Invalid value: '{}'. Supported values are: {}."
USER_PARTS = "'input_text', 'input_image', 'input_file'"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"temperature": 1}, "Unsupported parameter: temperature"),
        ({"max_output_tokens": 9}, "Unsupported parameter: max_output_tokens"),
        ({"previous_response_id": "resp_1"}, "Unsupported parameter: previous_response_id"),
        ({"metadata": {}}, "Unsupported parameter: metadata"),
        ({"stream": False}, "Stream must be set to true"),
        ({"store": True}, "Store must be set to false"),
        ({"store": None}, "Store must be set to false"),
        ({"instructions": None}, "Instructions are required"),
        ({"instructions": ""}, "Instructions are required"),
        ({"input": "hi"}, "Input must be a list"),
        ({"input": [message("system", "x")]}, "System messages are not allowed"),
        ({"service_tier": "flex"}, "Unsupported service_tier: flex"),
        ({"model": "gpt-4o"}, MODEL_REFUSED),
    ],
)
async def test_a_member_the_backend_does_not_take_is_refused_with_its_detail(
    client: Client, change: Json, text: str
) -> None:
    assert await client.post(said("hi", **change)) == (400, {"detail": text})


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"tools": [{"type": "function", "function": {"name": "add"}}]}, 400, "parameter: 'tools[0].name'."),
        (
            {"tools": [{**TOOL, "name": "a b"}]},
            400,
            "Invalid 'tools[0].name': string does not match pattern.",
        ),
        ({"tools": [{**TOOL, "strict": True}]}, 400, "Invalid schema for function 'add'"),
        ({"tools": [{"type": "web_search_preview"}]}, 400, "Unsupported tool type: web_search_preview"),
        ({"tool_choice": "required"}, 400, "Tool choice is only allowed when 'tools' are specified."),
        ({"reasoning": {"effort": "minimal"}}, 400, "'minimal' is not supported with the 'gpt-5.5' model."),
        (
            {"reasoning": {"generate_summary": "auto"}},
            400,
            "Unknown parameter: 'reasoning.generate_summary'.",
        ),
        ({"include": ["file_search_call.results"]}, 400, "Invalid value: 'file_search_call.results'."),
        ({"prompt_cache_key": "k" * 65}, 400, "Invalid 'prompt_cache_key': string too long."),
        ({"text": {"format": {"type": "json_object"}}}, 400, "must contain the word 'json'"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, 400, "parameter: 'text.format.name'."),
        ({"input": []}, 400, "Missing required parameter: 'input'."),
        ({"input": [message("assistant", [])]}, 400, "Missing required parameter: 'input[0].content'."),
        ({"input": [{**USER, "name": "bob"}]}, 400, "Unknown parameter: 'input[0].name'."),
        (
            {"input": [message("assistant", [{"type": "input_text", "text": "x"}]), USER]},
            400,
            PARTS.format("input_text", "'output_text' and 'refusal'"),
        ),
        (
            {"input": [message("user", [{"type": "text", "text": "x"}])]},
            400,
            PARTS.format("text", USER_PARTS),
        ),
        ({"input": [message("user", "x", id="msg_1")]}, 404, NOT_FOUND.format("msg_1")),
        ({"input": [{"type": "item_reference", "id": "rs_1"}]}, 404, NOT_FOUND.format("rs_1")),
        (
            {"input": [{"type": "reasoning", "id": "rs_1", "summary": []}, USER]},
            404,
            NOT_FOUND.format("rs_1"),
        ),
        ({"input": [USER, CALL]}, 400, "No tool output found for function call c1."),
        ({"input": [USER, OUTPUT]}, 400, "No tool call found for function call output with call_id c1."),
        (
            {"input": [USER, {**CALL, "arguments": {}}, OUTPUT]},
            400,
            "'input[1].arguments': expected a string",
        ),
        (
            {"input": [USER, CALL, {**OUTPUT, "output": [{"type": "output_text", "text": "3"}]}]},
            400,
            "Invalid value: 'output_text'.",
        ),
        (
            {"input": [{"type": "web_search_call", "action": {"type": "open"}}, USER]},
            400,
            PARTS.format("open", "'search', 'open_page', 'find_in_page'"),
        ),
    ],
)
async def test_a_value_the_backend_does_not_take_is_refused_in_openai_form(
    client: Client, change: Json, status: int, text: str
) -> None:
    answered, body = await client.post(said("hi", **change))
    assert (answered, body["error"]["type"]) == (status, "invalid_request_error")
    assert text in body["error"]["message"]


async def test_a_parameter_can_be_refused_by_name_even_inside_another(client: Client) -> None:
    client.account.refuses.add("text.verbosity")
    refused = await client.post(said("hi", text={"verbosity": "low"}))
    assert refused == (400, {"detail": "Unsupported parameter: text.verbosity"})
    assert text_of(await client.stream(said("hi"))) == "You said: hi"


async def test_a_model_needs_its_client_version_and_the_plan(client: Client) -> None:
    status, body = await client.post(said("hi", model="gpt-6-sol"), version="0.153.0")
    assert (status, body["detail"][:50]) == (400, "The 'gpt-6-sol' model requires a newer version of ")
    del client.headers["version"]
    assert (await client.post(said("hi")))[1]["error"]["message"] == "Model not found gpt-5.5"
    client.account.plan = "free"
    assert (await client.post(said("hi", model="gpt-6-sol")))[0] == 400


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"reasoning": {}}, "requires `reasoning.context` to be `all_turns`."),
        ({"parallel_tool_calls": True}, "requires `parallel_tool_calls` to be false."),
        (
            {"tools": [{"type": "web_search"}]},
            "only supports function tools, custom tools, and client-executed",
        ),
        (
            {"model": "gpt-5.5"},
            "This model is not supported when using X-OpenAI-Internal-Codex-Responses-Lite.",
        ),
    ],
)
async def test_lite_requests_have_rules_of_their_own(client: Client, change: Json, text: str) -> None:
    lite = said("hi", model="gpt-5.6-sol", reasoning={"context": "all_turns"}, parallel_tool_calls=False)
    del lite["instructions"]
    client.headers["x-openai-internal-codex-responses-lite"] = "true"
    assert text_of(await client.stream(lite)) == "You said: hi"
    status, body = await client.post({**lite, **change})
    assert (status, body["error"]["code"]) == (400, "unsupported_value")
    assert text in body["error"]["message"]


async def test_ciphertext_is_taken_back_from_its_own_account_only(client: Client) -> None:
    reasoning, answer = items_of(await client.stream(said("hi")))
    history = [USER, replayed(reasoning), replayed(answer), USER]
    await client.stream(said("", input=history))
    other = Client(client.fake, client.fake.account("acct-work"), client.http)
    status, body = await other.post(said("", input=history))
    assert (status, body["error"]["code"]) == (400, "invalid_encrypted_content")
    assert "organization_id did not match" in body["error"]["message"]
    broken = [USER, {**replayed(reasoning), "encrypted_content": "gAAAAAtampered"}, USER]
    assert "could not be decrypted" in (await client.post(said("", input=broken)))[1]["error"]["message"]
    lonely = await client.post(said("", input=[USER, replayed(reasoning)]))
    assert "without its required following item" in lonely[1]["error"]["message"]


async def test_tokens_and_account_ids_are_checked(client: Client) -> None:
    wrong = await client.post(said("hi"), chatgpt_account_id="acct-work")
    assert wrong == (403, {"detail": {"code": "invalid_workspace_selected"}})
    assert (await client.post(said("hi"), authorization="Bearer nobody"))[1]["error"][
        "code"
    ] == "token_invalidated"
    client.account.expire_access()
    assert (await client.post(said("hi")))[1]["error"]["code"] == "token_expired"
    fresh = (await client.refresh(client.tokens["refresh_token"]))[1]
    client.headers["authorization"] = f"Bearer {fresh['access_token']}"
    await client.stream(said("hi"))
    client.fake.clock.advance(864_001)
    assert (await client.post(said("hi")))[1]["error"]["code"] == "token_expired"


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_compressed_bodies_are_taken(client: Client, encoding: str) -> None:
    plain = json.dumps(said("hi")).encode()
    if encoding == "gzip":
        body = gzip.compress(plain)
    else:
        from backports import zstd

        body = zstd.compress(plain)
        assert zstd_decompress(body) == plain
    headers = {**client.headers, "content-encoding": encoding}
    async with client.http.post(client.fake.responses_url, data=body, headers=headers) as answer:
        assert answer.status == 200
    assert client.account.requests[-1].json == said("hi")

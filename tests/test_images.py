"""The Images API through the image tool: what is asked, what is refused, what comes back."""

from __future__ import annotations

import base64
import contextlib
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from addon.protocol import images, multipart, sse
from addon.protocol.asked import Asked
from addon.protocol.failure import Refused

PNG = b"\x89PNG\r\n\x1a\nwhat follows\r\n--is not read"
WEBP = b"RIFF\x00\x00\x00\x00WEBPVP8 "


def refusal(call: Any, *args: Any) -> tuple[int, str | None, str | None]:
    with pytest.raises(Refused) as refused:
        call(*args)
    failure = refused.value.failure
    return failure.status, failure.param, failure.code


def test_a_prompt_becomes_a_conversation_whose_model_must_draw() -> None:
    asked = {"model": "gpt-image-1", "prompt": "a cat", "size": "1024x1024", "quality": "high", "user": "me"}
    picture = images.generation(asked, "gpt-5.5")
    assert picture.count == 1
    assert picture.body == {
        "model": "gpt-5.5",
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a cat"}]},
        ],
        "tools": [
            {"type": "image_generation", "model": "gpt-image-1", "quality": "high", "size": "1024x1024"},
        ],
        "tool_choice": {"type": "image_generation"},
        "store": False,
    }


@pytest.mark.parametrize(
    "name", ["background", "input_fidelity", "moderation", "output_compression", "output_format"]
)
def test_what_the_tool_knows_is_handed_on(name: str) -> None:
    picture = images.generation({"prompt": "a cat", name: "x"}, "m")
    assert picture.body["tools"] == [{"type": "image_generation", name: "x"}]


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"prompt": None}, "prompt", "missing_required_parameter"),
        ({"prompt": " "}, "prompt", "missing_required_parameter"),
        ({"prompt": 3}, "prompt", "missing_required_parameter"),
        ({"response_format": "url"}, "response_format", "unsupported_value"),
        ({"stream": True}, "stream", "unsupported_parameter"),
        ({"model": "dall-e-3"}, "model", "model_not_found"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 11}, "n", "invalid_value"),
        ({"n": True}, "n", "invalid_value"),
        ({"n": "2"}, "n", "invalid_value"),
    ],
)
def test_what_cannot_be_had_is_refused(change: dict[str, Any], param: str, code: str) -> None:
    assert refusal(images.generation, {"prompt": "a cat"} | change, "m") == (400, param, code)


def test_up_to_ten_images_are_so_many_calls() -> None:
    assert images.generation({"prompt": "a cat", "n": 10, "response_format": "b64_json"}, "m").count == 10


def test_an_edit_brings_its_images_and_its_mask() -> None:
    url = "data:image/png;base64,AAAA"
    body = {"prompt": "a dog", "images": [{"image_url": url}, url], "mask": {"image_url": url}}
    sent = images.edit(body, "m").body
    assert sent["input"][0]["content"][1:] == [{"type": "input_image", "image_url": url}] * 2
    assert sent["tools"] == [{"type": "image_generation", "input_image_mask": {"image_url": url}}]


@pytest.mark.parametrize(
    ("given_images", "code"),
    [
        (None, "missing_required_parameter"),
        ([], "missing_required_parameter"),
        (["x"], "invalid_value"),
        ([{"file_id": "file-1"}], "unsupported_file_id"),
        (["file:///etc/passwd"], "invalid_value"),
        (["data:image/png;base64,!A"], "invalid_value"),
        (["data:image/png;base64,AAAA"] * 17, "invalid_value"),
    ],
)
def test_an_edit_without_a_readable_image_is_refused(given_images: Any, code: str) -> None:
    body = {"prompt": "a dog", "images": given_images}
    assert refusal(images.edit, body, "m") == (400, "image", code)


def upload(files: Any, data: dict[str, Any]) -> tuple[bytes, str]:
    """A form as httpx, and so the SDK, writes it."""
    request = httpx.Request("POST", "http://x", files=files, data=data)
    return request.read(), request.headers["content-type"]


def test_an_upload_is_read_as_if_it_were_json() -> None:
    files = [("image[]", ("a.png", PNG, "text/plain")), ("image[]", ("b", WEBP)), ("mask", ("m.png", PNG))]
    body = images.form(*upload(files, {"prompt": "grün", "n": "2", "size": "auto"}))
    assert body["prompt"] == "grün"
    assert (body["n"], body["size"]) == (2, "auto")
    assert [image["image_url"].partition(",")[0] for image in body["images"]] == [
        "data:image/png;base64",
        "data:image/webp;base64",
    ]
    assert base64.b64decode(body["images"][0]["image_url"].partition(",")[2]) == PNG
    assert base64.b64decode(body["mask"]["image_url"].partition(",")[2]) == PNG


def test_a_number_too_long_to_be_one_is_refused() -> None:
    body = images.form(*upload([("image", PNG)], {"prompt": "x", "n": "9" * 5000}))
    assert refusal(images.edit, body, "m") == (400, "n", "invalid_value")


def test_an_upload_that_is_no_image_or_too_large_is_refused() -> None:
    form = upload([("image", ("a.png", b"<svg>"))], {"prompt": "x"})
    assert refusal(images.form, *form) == (400, "image", "invalid_image")
    large = b"\x89PNG\r\n\x1a\n" + bytes(images.MAX_UPLOAD_BYTES)
    form = upload([("image", ("a.png", large))], {"prompt": "x"})
    assert refusal(images.form, *form) == (400, "image", "image_too_large")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "multipart/form-data"),
        (b"", "multipart/form-data" + ";" * 1_000_000 + "boundary=x"),
        (
            b"--x\r\nContent-Disposition: form-data; name=a" + b";" * 1_000_000 + b"\r\n\r\nv\r\n--x--",
            "multipart/form-data; boundary=x",
        ),
        (b"", "multipart/form-data; boundary=x"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data; name=a\r\n--x--", "multipart/form-data; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\nv\r\n--x--", "multipart/form-data; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nv\r\n--x", "multipart/form-data; boundary=x"),
        (
            b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nv\r\n" * 65 + b"--x--",
            "multipart/form-data; boundary=x",
        ),
    ],
)
def test_a_broken_form_is_a_400(body: bytes, kind: str) -> None:
    assert refusal(multipart.fields, body, kind)[::2] == (400, "invalid_multipart")


@given(st.lists(st.tuples(st.text("abc", min_size=1), st.binary()), min_size=1, max_size=4))
def test_every_value_comes_out_as_it_went_in(values: list[tuple[str, bytes]]) -> None:
    files = [(name, (f"{name}.bin", value)) for name, value in values]
    found = multipart.fields(*upload(files, {}))
    assert [(field.name, field.value) for field in found] == values


@given(st.binary(), st.text())
def test_no_bytes_raise_anything_but_a_refusal(body: bytes, kind: str) -> None:
    for form in (body, b"--x" + body + b"--x--"):
        for name in (kind, "multipart/form-data; boundary=x"):
            with contextlib.suppress(Refused):
                multipart.fields(form, name)


def answered(output: list[dict[str, Any]], **members: Any) -> images.ImageObject:
    made = images.ImageObject(Asked("responses", False, "gpt-image-1"))
    feed(made, output, **members)
    return made


def feed(made: images.ImageObject, output: list[dict[str, Any]], **members: Any) -> None:
    usage = {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12}
    response = {"id": "resp_1", "created_at": 5, "output": output, "usage": usage, **members}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {"id": "resp_1"}},
        *(
            {"type": "response.output_item.done", "output_index": index, "item": item}
            for index, item in enumerate(output)
        ),
        {"type": "response.completed", "response": response},
    ]
    for event in events:
        made.feed(sse.Frame(sse.encode(event)))


def call(result: str, **members: Any) -> dict[str, Any]:
    return {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": result, **members}


def test_the_answer_is_the_image_with_what_is_known_of_it() -> None:
    made = answered([call("AAAA", revised_prompt="a nice cat", output_format="png", size="1x1")])
    assert orjson.loads(made.finish()) == {
        "created": 5,
        "data": [{"b64_json": "AAAA", "revised_prompt": "a nice cat"}],
        "output_format": "png",
        "size": "1x1",
        "usage": {
            "input_tokens": 9,
            "output_tokens": 3,
            "total_tokens": 12,
            "input_tokens_details": {"text_tokens": 9, "image_tokens": 0},
        },
    }


def test_the_tools_own_usage_wins() -> None:
    own = {"input_tokens": 5, "output_tokens": 7, "input_tokens_details": {"image_tokens": 2}}
    usage = answered([call("AAAA")], tool_usage={"image_gen": own}).images()["usage"]
    assert usage == {
        "input_tokens": 5,
        "output_tokens": 7,
        "total_tokens": 12,
        "input_tokens_details": {"text_tokens": 3, "image_tokens": 2},
    }


def test_an_answer_without_an_image_says_what_the_model_said() -> None:
    text = {"type": "output_text", "text": "I will not draw that.", "annotations": []}
    message = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [text],
    }
    with pytest.raises(Refused, match="I will not draw that") as refused:
        answered([message]).finish()
    assert refused.value.failure.status == 400  # asking again would cost again and bring the same
    with pytest.raises(Refused, match="no image"):
        answered([]).finish()


def test_several_answers_are_one_with_all_images() -> None:
    several = images.Images(Asked("responses", False, "gpt-image-1"), 2)
    for result, output in zip("AB", several.outputs, strict=True):
        feed(output, [call(result * 4)])
    joined = orjson.loads(several.join())
    assert [datum["b64_json"] for datum in joined["data"]] == ["AAAA", "BBBB"]
    assert joined["usage"]["total_tokens"] == 24
    assert joined["usage"]["input_tokens_details"]["text_tokens"] == 18

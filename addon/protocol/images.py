"""The Images API: an image is asked for in a conversation of one message, whose model must use its image tool.

The backend's Responses endpoint has the tool `image_generation`; what the Images API says about the picture are its
members. Uploads of an edit become input images. One call makes one image: `n` images are n calls.

The rule: what the tool cannot do is refused, not ignored: an URL in place of the image, a variation, DALL-E.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from addon.protocol import multipart
from addon.protocol.aggregate import ResponsesObject
from addon.protocol.asked import Asked
from addon.protocol.failure import refuse, reject

MAX_IMAGES: Final = 10
"""`n` at most, as OpenAI's API has it."""
MAX_UPLOADS: Final = 16
"""Images of one edit at most, as OpenAI's API has it."""
MAX_UPLOAD_BYTES: Final = 25 * 2**20
"""Bytes of one upload; OpenAI takes 50 MiB, but the request as a whole has to fit into ours, in base64."""

TOOL: Final = "image_generation"
_OF_THE_TOOL: Final = (
    "background",
    "input_fidelity",
    "moderation",
    "output_compression",
    "output_format",
    "quality",
    "size",
)
_NUMBERS: Final = frozenset({"n", "output_compression", "partial_images"})
_KINDS: Final = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """What the client asked for. `body` is for the Responses API, `count` how many times."""

    body: dict[str, Any]
    count: int


def form(content: bytes, content_type: str) -> dict[str, Any]:
    """The body of an upload as if it had come as JSON: uploads are data URLs in `images` and `mask`."""
    body: dict[str, Any] = {}
    images: list[dict[str, str]] = []
    for field in multipart.fields(content, content_type):
        if field.name in ("image", "image[]"):
            images.append({"image_url": _data_url(field, "image")})
        elif field.name == "mask":
            body["mask"] = {"image_url": _data_url(field, "mask")}
        else:
            text = field.value.decode("utf-8", "replace")
            number = field.name in _NUMBERS and len(text) < 10 and text.isdecimal()
            body[field.name] = int(text) if number else text
    return {**body, "images": images}


def generation(body: dict[str, Any], model: str) -> Picture:
    """POST /v1/images/generations. `model` is the one that has the tool. Raises Refused (400)."""
    return _picture(body, model, [], None)


def edit(body: dict[str, Any], model: str) -> Picture:
    """POST /v1/images/edits. Raises Refused (400)."""
    given = body.get("images")
    if not isinstance(given, list) or not given:
        reject("Missing required parameter: 'image'.", "image", "missing_required_parameter")
    if len(given) > MAX_UPLOADS:
        reject(f"Too many images: {MAX_UPLOADS} at most.", "image", "invalid_value")
    mask = body.get("mask")
    return _picture(
        body, model, [_url(image, "image") for image in given], _url(mask, "mask") if mask else None
    )


def _picture(body: dict[str, Any], model: str, images: Sequence[str], mask: str | None) -> Picture:
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        reject("Missing required parameter: 'prompt'.", "prompt", "missing_required_parameter")
    if body.get("response_format") not in (None, "b64_json"):
        reject(
            "Only 'b64_json' is available as 'response_format': the image comes in the answer, there is no place "
            "to fetch it from.",
            "response_format",
            "unsupported_value",
        )
    if body.get("stream"):
        reject("Images are not streamed here; leave 'stream' out.", "stream", "unsupported_parameter")
    tool: dict[str, Any] = {"type": TOOL}
    named = body.get("model")
    if isinstance(named, str) and named:
        if named.startswith("dall-e"):
            reject(
                f"The model '{named}' is not available; ask for a gpt-image model.",
                "model",
                "model_not_found",
            )
        tool["model"] = named
    tool |= {name: body[name] for name in _OF_THE_TOOL if body.get(name) is not None}
    if mask:
        tool["input_image_mask"] = {"image_url": mask}
    content: list[dict[str, Any]] = [{"type": "input_text", "text": prompt}]
    content += [{"type": "input_image", "image_url": url} for url in images]
    return Picture(
        {
            "model": model,
            "input": [{"type": "message", "role": "user", "content": content}],
            "tools": [tool],
            "tool_choice": {"type": TOOL},
            "store": False,
        },
        _count(body.get("n")),
    )


class ImageObject(ResponsesObject):
    """The answer of one call as an Images answer."""

    def finish(self) -> bytes:
        """The JSON body. Raises Refused if there is no image."""
        return orjson.dumps(self.images())

    def images(self) -> dict[str, Any]:
        """The body as a dict. Raises Refused (400) if the model made none: it would not the next time either."""
        response = self.response or {}
        made = [
            item
            for item in self.items
            if item.get("type") == "image_generation_call" and isinstance(item.get("result"), str)
        ]
        if not made:
            raise refuse(400, _why_not(self.items), code="image_not_generated")
        first = made[0]
        result: dict[str, Any] = {
            "created": int(response.get("created_at") or 0),
            "data": [_datum(item) for item in made],
            "usage": _usage(response),
        }
        shown = {name: first.get(name) for name in ("background", "output_format", "quality", "size")}
        return result | {name: value for name, value in shown.items() if isinstance(value, str)}


class Images:
    """Several calls as one answer, see `choices.Choices`."""

    def __init__(self, asked: Asked, count: int) -> None:
        self._outputs = [ImageObject(asked) for _ in range(count)]

    @property
    def outputs(self) -> Sequence[ImageObject]:
        return self._outputs

    def join(self) -> bytes:
        """The body with all images and the usage added up. Raises Refused."""
        answers = [output.images() for output in self._outputs]
        usage = answers[0]["usage"]
        for answer in answers[1:]:
            usage = _sum(usage, answer["usage"])
        data = [datum for answer in answers for datum in answer["data"]]
        return orjson.dumps({**answers[0], "data": data, "usage": usage})


def _datum(item: dict[str, Any]) -> dict[str, Any]:
    datum = {"b64_json": item["result"]}
    if isinstance(item.get("revised_prompt"), str):
        datum["revised_prompt"] = item["revised_prompt"]
    return datum


def _usage(response: dict[str, Any]) -> dict[str, Any]:
    """The tool's own usage where the backend tells it, else that of the whole call."""
    tools = response.get("tool_usage")
    own = tools.get("image_gen") if isinstance(tools, dict) else None
    usage = own if isinstance(own, dict) else response.get("usage") or {}
    given, made = _number(usage.get("input_tokens")), _number(usage.get("output_tokens"))
    details = usage.get("input_tokens_details")
    details = details if isinstance(details, dict) else {}
    pixels = _number(details.get("image_tokens"))
    return {
        "input_tokens": given,
        "output_tokens": made,
        "total_tokens": _number(usage.get("total_tokens")) or given + made,
        "input_tokens_details": {
            "text_tokens": _number(details.get("text_tokens")) or given - pixels,
            "image_tokens": pixels,
        },
    }


def _sum(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _sum(value, right[name]) if isinstance(value, dict) else value + right[name]
        for name, value in left.items()
    }


def _why_not(items: Sequence[dict[str, Any]]) -> str:
    """What the model said in place of an image."""
    texts = [
        part.get("text") or part.get("refusal")
        for item in items
        if item.get("type") == "message"
        for part in item.get("content") or []
        if isinstance(part, dict)
    ]
    said = " ".join(text for text in texts if isinstance(text, str))
    return f"The backend made no image. It said: {said[:500]}" if said else "The backend made no image."


def _number(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _count(n: object) -> int:
    if n is None:
        return 1
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= MAX_IMAGES:
        reject(f"Invalid 'n': expected an integer from 1 to {MAX_IMAGES}.", "n", "invalid_value")
    return n


def _url(image: object, param: str) -> str:
    """The address of an image given as JSON: a data URL, or one that the backend can fetch."""
    url = image.get("image_url") if isinstance(image, dict) else image
    if isinstance(image, dict) and image.get("file_id"):
        reject(
            "'file_id' names a file of another account; send the image itself.", param, "unsupported_file_id"
        )
    if not isinstance(url, str) or not url.startswith(("data:image/", "https://", "http://")):
        reject(f"Invalid '{param}': expected an image.", param, "invalid_value")
    if url.startswith("data:"):
        try:
            binascii.a2b_base64(url.partition(",")[2][:64])
        except binascii.Error:
            reject(f"Invalid '{param}': its data URL is not base64.", param, "invalid_value")
    return url


def _data_url(field: multipart.Field, param: str) -> str:
    if len(field.value) > MAX_UPLOAD_BYTES:
        reject(f"'{param}' is larger than {MAX_UPLOAD_BYTES // 2**20} MiB.", param, "image_too_large")
    kind = next((kind for mark, kind in _KINDS.items() if field.value.startswith(mark)), None)
    if field.value[:4] == b"RIFF" and field.value[8:12] == b"WEBP":
        kind = "image/webp"
    if kind is None:
        reject(f"Invalid '{param}': expected a PNG, JPEG, WebP or GIF image.", param, "invalid_image")
    return f"data:{kind};base64,{base64.b64encode(field.value).decode()}"

"""The clients that have a driver, as data.

An error class is named as its driver reports it, the package before the dot; `refused` is what a 400 of the backend
has to become, `limited` what a 429 has to become when every account is out. A client's `environ` only keeps it
from asking hosts that no test may ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.clients import environments
from tests.clients.environments import Environment

Api = Literal["responses", "chat"]
APIS: tuple[Api, ...] = ("responses", "chat")
Way = Literal["proxy", "base"]
"""HTTPS_PROXY with our CA, or OPENAI_BASE_URL."""
WAYS: tuple[Way, ...] = ("proxy", "base")


@dataclass(frozen=True, slots=True)
class Client:
    name: str
    environment: Environment
    package: str
    """Whose version is the client's."""
    driver: str
    refused: str = "openai.BadRequestError"
    limited: str = "openai.RateLimitError"
    environ: Mapping[str, str] = field(default_factory=dict)


CLIENTS = (
    Client("openai", environments.OPENAI, "openai", "openai_sdk.py"),
    Client("openai-1", environments.OPENAI_1, "openai", "openai_sdk.py"),
    Client("langchain", environments.LANGCHAIN, "langchain-openai", "langchain_openai_chat.py"),
    Client(
        "litellm",
        environments.LITELLM,
        "litellm",
        "litellm_calls.py",
        refused="litellm.BadRequestError",
        limited="litellm.RateLimitError",
        environ={"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    ),
    Client(
        "pydantic-ai",
        environments.PYDANTIC_AI,
        "pydantic-ai-slim",
        "pydantic_ai_agent.py",
        refused="pydantic_ai.ModelHTTPError",
        limited="pydantic_ai.ModelHTTPError",
    ),
    Client("openai-agents", environments.AGENTS, "openai-agents", "openai_agents.py"),
    Client(
        "openai-npm",
        environments.NODE,
        "openai",
        "openai_sdk.mjs",
        refused="BadRequestError",
        limited="RateLimitError",
    ),
    Client(
        "vercel-ai",
        environments.NODE,
        "ai",
        "vercel_ai.mjs",
        refused="AI_APICallError",
        limited="AI_RetryError",
    ),
)

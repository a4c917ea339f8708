"""Every setting: one pydantic-settings model, from which file, variables, options, help and README follow.

The one idea: a setting is declared once. Its place in the model gives its JSON path (camel case), its
variable `OPENAI_AUTH_<NAME>` and its mitmproxy option `codex_<name>`; a `Name` overrides where a documented
name differs. The rule: settings never hold account data, and a `Settings` object never changes (a live edit
makes a new one).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from accounts.setting_types import (
    AccountLimits,
    AtStart,
    Count,
    Flag,
    Hour,
    Level,
    Limits,
    Line,
    MinimumLimits,
    Minimums,
    Mode,
    Name,
    Names,
    NotBuiltYet,
    OptionalLine,
    OptionalPath,
    Positive,
    PositiveOrZero,
    PrivateUrl,
    Statuses,
    Switch,
    Text,
    Thresholds,
    Url,
)


class Group(BaseModel):
    """Settings that belong together: an object in the file."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )


class Routing(Group):
    mode: Mode = Field(default="main-first", description="which account a request is tried on first")


class Refresh(Group):
    enabled: Flag = Field(default=True, description="renew logins in the background, before they expire")
    refresh_before_expiry_minutes: Positive = Field(
        default=240,
        description="how long before expiry a fallback's login is renewed in the background (minutes)",
    )


class QuotaSettings(Group):
    enabled: Flag = Field(
        default=True, description="let quota decide which fallback may serve (minimumRemaining)"
    )
    poll: Flag = Field(default=True, description="ask the usage endpoint in the background")
    check_interval_minutes: Positive = Field(
        default=5, description="time between two background polls (minutes)"
    )
    minimum_remaining: MinimumLimits = Field(
        default=Minimums(),
        description="remaining percent a fallback must have: windows up to 24 h, longer ones",
    )
    fail_closed_on_unknown_quota: Flag = Field(
        default=False, description="an account whose quota is unknown does not serve"
    )


class Killswitch(Group):
    enabled: Flag = Field(default=False, description="stop using an account before its quota is used up")
    main: Limits = Field(
        default=Thresholds(),
        description="remaining percent below which an account rests: windows up to 24 h, longer ones",
    )
    accounts: AccountLimits = Field(
        default={}, description="the same for single accounts, by label or id; as text: work:5,10 home:0,20"
    )


class Cachekeep(Group):
    enabled: Annotated[Flag, NotBuiltYet()] = Field(
        default=False, description="keep the prompt cache of idle conversations warm (costs quota)"
    )
    subagents: Annotated[Flag, NotBuiltYet()] = Field(
        default=False, description="keep child sessions warm too"
    )
    sustain: Annotated[Flag, NotBuiltYet()] = Field(
        default=False, description="main sessions stay warm for as long as the proxy runs"
    )
    start_hour: Annotated[Hour | None, NotBuiltYet()] = Field(
        default=None, description="first local hour of the day in which to keep warm"
    )
    end_hour: Annotated[Hour | None, NotBuiltYet()] = Field(
        default=None, description="local hour at which keeping warm ends; may be past midnight"
    )

    @model_validator(mode="after")
    def _window(self) -> Cachekeep:
        if (self.start_hour is None) != (self.end_hour is None):
            raise PydanticCustomError("window", "startHour and endHour together, or neither")
        if self.start_hour is not None and self.start_hour == self.end_hour:
            raise PydanticCustomError("window", "a startHour that differs from endHour")
        return self


class CostZeroing(Group):
    enabled: Flag = Field(
        default=True, description="report the cost of a request as zero where costs are shown"
    )


class LoggingSettings(Group):
    level: Annotated[Level, Name("log_level")] = Field(default="info", description="how much is logged")
    file: Annotated[OptionalPath, Name("log_file", default="openai-auth.log in the state folder")] = Field(
        default=None, description="log file"
    )


class Identity(Group):
    originator: Line = Field(
        default="openai-auth-proxy", description="`originator` header sent to the backend"
    )
    user_agent: Annotated[Line | None, Name(default="openai-auth-proxy/<version> (<platform>)")] = Field(
        default=None, description="`user-agent` header sent to the backend"
    )
    version: Line = Field(
        default="0.169.0",
        description="protocol version sent to the backend; it decides which models are offered",
    )
    beta_features: OptionalLine = Field(
        default="remote_compaction_v2", description="`x-codex-beta-features` header; empty: not sent"
    )


class Settings(BaseSettings):
    """All settings, in the order in which they are shown. `Settings()` is the defaults alone."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )

    web_search: Annotated[Flag, Name(negated="NO_WEB_SEARCH")] = Field(
        default=True,
        description="add the hosted web_search tool to requests with tools: it keeps the prompt cache",
    )
    websockets: Annotated[Flag, Name("websockets"), NotBuiltYet()] = Field(
        default=False, alias="webSockets", description="talk to the backend over WebSocket"
    )
    raw_websocket: Annotated[Flag, Name("raw_ws"), NotBuiltYet()] = Field(
        default=False, alias="rawWebSocket", description="plain WebSocket frames upstream; needs webSockets"
    )
    responses_lite: Annotated[Flag, NotBuiltYet()] = Field(
        default=False, description="use Responses Lite for the models that offer it"
    )
    dump: Annotated[Switch, NotBuiltYet()] = Field(
        default=False, description="write every request to dumpDir (prompts included)"
    )
    dump_dir: Annotated[
        OptionalPath, Name(default="openai-auth-dumps in the temporary folder"), NotBuiltYet()
    ] = Field(default=None, description="folder for dumps")
    backend_url: PrivateUrl = Field(
        default="https://chatgpt.com/backend-api",
        description="base of /codex/responses, /codex/models, /wham/usage",
    )
    codex_endpoint: Annotated[PrivateUrl | None, Name(default="<backendUrl>/codex/responses")] = Field(
        default=None, alias="codexApiEndpoint", description="only the responses endpoint (a compatible relay)"
    )
    issuer_url: PrivateUrl = Field(default="https://auth.openai.com", description="OAuth issuer")
    upstream_proxy: Annotated[Url | None, Name(default="none"), AtStart()] = Field(
        default=None, repr=False, description="proxy for our own upstream connections"
    )
    connect_timeout: Annotated[Positive, AtStart()] = Field(
        default=15, description="time to connect to the backend (seconds)"
    )
    idle_timeout: Annotated[Positive, AtStart()] = Field(
        default=300, description="silence after which a stream counts as cut (seconds)"
    )
    hold_timeout: PositiveOrZero = Field(
        default=0,
        description="release an answer to the client after this time without a sign of success (seconds; "
        "0: wait), after which no other account can take over",
    )
    identity: Identity = Identity()
    routing: Routing = Routing()
    fallback_on: Statuses = Field(
        default=(401, 403, 429), description="statuses of the backend for which the next account is tried"
    )
    keep_conversation: Flag = Field(
        default=True, description="a conversation stays on the account that holds its prompt cache"
    )
    refresh: Refresh = Refresh()
    quota: QuotaSettings = QuotaSettings()
    killswitch: Killswitch = Killswitch()
    cachekeep: Cachekeep = Cachekeep()
    cost_zeroing: CostZeroing = CostZeroing()
    logging: LoggingSettings = LoggingSettings()
    instructions: Text = Field(
        default="You are a helpful assistant.", description="instructions for requests that bring none"
    )
    model_aliases: Names = Field(
        default={}, description="model names of clients and what is asked for instead; as text: a=b,c=d"
    )
    expose_reasoning: Flag = Field(
        default=True, description="show summaries of reasoning to Chat Completions clients"
    )
    speaker_names: Flag = Field(
        default=False, description="put the name of a chat message in front of its text; else it is dropped"
    )
    store_responses: Flag = Field(
        default=True, description="keep answers for previous_response_id and GET /v1/responses/{id}"
    )
    store_max_count: Count = Field(default=1000, description="how many answers are kept")
    store_max_bytes: Count = Field(
        default=256 * 1024 * 1024, description="how much room they may take (bytes)"
    )
    store_max_age_hours: Positive = Field(default=24, description="how long they are kept (hours)")
    unsupported: Literal["auto", "pass", "error"] = Field(
        default="auto",
        description="paths that no subscription serves: pass them to api.openai.com if the key looks real and "
        "refuse them otherwise, always pass, or always refuse",
    )
    openai_url: PrivateUrl = Field(
        default="https://api.openai.com/v1",
        description="base of the real API, for accounts that are API keys",
    )
    image_model: Line = Field(
        default="gpt-5.5", description="model that is asked when a client wants an image (Images API)"
    )
    n_policy: Literal["error", "fanout"] = Field(
        default="error", description="Chat Completions with n > 1: refuse, or make n requests"
    )
    stop_policy: Literal["local", "drop"] = Field(
        default="local", description="stop sequences: cut the text here, or ignore them"
    )
    strict_params: Flag = Field(
        default=False, description="refuse parameters that would otherwise be dropped (logprobs)"
    )

    @property
    def responses_url(self) -> str:
        """Where requests go: the endpoint if one is set, else the backend's."""
        return self.codex_endpoint or f"{self.backend_url}/codex/responses"

    @property
    def dump_folder(self) -> Path:
        return self.dump_dir or Path(tempfile.gettempdir()) / "openai-auth-dumps"

    @classmethod
    def from_layers(cls, layers: Sequence[PydanticBaseSettingsSource]) -> Settings:
        """Settings from sources, strongest first. Raises pydantic's ValidationError."""
        values: dict[str, Any] = {"layers": layers}
        return cls(**values)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The layers handed in, and no sources of pydantic's own: those would forget which variable or key a
        wrong value came from, and a person has to be told."""
        layers = cast(InitSettingsSource, init_settings).init_kwargs.pop("layers", ())
        return (init_settings, *layers)

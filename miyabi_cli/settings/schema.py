"""What a user can set: one frozen object, with defaults and a description for every key; imports pydantic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from miyabi_cli.messages import Effort
from miyabi_cli.settings.value_types import (
    Amount,
    Count,
    Duration,
    Endpoint,
    FilePath,
    Score,
    Seconds,
    Secret,
    Share,
    Temperature,
    Text,
    WeightName,
)

Server = Literal["vllm", "ollama", "groq", "openai", "embedded", "replay"]
ProviderChoice = Literal["auto", "vllm", "ollama", "groq", "openai", "embedded", "replay"]
KeyPath = tuple[str, ...]

# A default as a user would write it: it is checked and turned into seconds like any other value.
FIVE_MINUTES: Any = "5m"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_section(cls, value: object) -> object:
        """Read `llm:` with every key below it commented out as an empty section."""
        return {} if value is None else value


class Vllm(_Section):
    endpoint: Endpoint = Field(default="http://localhost:8000", description="Base of the server, `/v1` or not.")
    api_key: Secret = Field(default=None, description="Key, where the server was started with one.")
    model: Text = Field(default="openai/gpt-oss-20b", description="Model to ask for.")
    wire: Literal["auto", "harmony", "chat"] = Field(
        default="auto", description="`harmony`: raw tokens; `chat`: chat completions; `auto`: the best that works."
    )


class Ollama(_Section):
    endpoint: Endpoint = Field(default="http://localhost:11434", description="Base of the server.")
    api_key: Secret = Field(default=None, description="Key, where a proxy before the server asks for one.")
    model: Text = Field(default="gpt-oss:20b", description="Model to ask for.")
    num_ctx: Count = Field(
        default=65536, description="Tokens of context; Ollama's own default of 4096 cuts prompts in silence."
    )
    keep_alive: Duration = Field(
        default=FIVE_MINUTES,
        description="How long the model stays loaded: `5m`, seconds, `0`: not at all, `-1`: for ever.",
    )


class Groq(_Section):
    endpoint: Endpoint = Field(default="https://api.groq.com/openai/v1", description="Base of the server.")
    api_key: Secret = Field(default=None, description="Key of the account.")
    model: Text = Field(default="openai/gpt-oss-20b", description="Model to ask for.")


class OpenAI(_Section):
    endpoint: Endpoint = Field(
        default="https://api.openai.com/v1",
        description="Base of any server that speaks chat completions, with or without `/v1`.",
    )
    api_key: Secret = Field(default=None, description="Key of the account.")
    model: Text | None = Field(default=None, description="Model to ask for; this provider needs one.")
    tools: Literal["auto", "native", "schema", "none"] = Field(
        default="auto",
        description="How the model acts: by `native` tool calls, by objects that the server holds to a `schema`, or by "
        "objects without that (`none`); `auto`: as the model's name tells.",
    )


class Embedded(_Section):
    model: Text = Field(default="qwen2.5-coder-1.5b", description="A name from `miyabi model list`, or a GGUF file.")
    threads: Count | None = Field(default=None, description="Threads of the engine; null: as many as suit the machine.")
    context: Count = Field(default=16384, description="Tokens of context.")
    keep_alive: Duration = Field(
        default=FIVE_MINUTES, description="How long the idle engine stays; same forms as `llm.ollama.keep_alive`."
    )


class Replay(_Section):
    file: FilePath | None = Field(default=None, description="Recorded replies that the provider `replay` plays.")


class Llm(_Section):
    provider: ProviderChoice = Field(
        default="auto",
        description="Who serves the model; `auto`: the first to answer of vLLM, Ollama, Groq (with a key), embedded.",
    )
    fallback: tuple[Server, ...] = Field(
        default=(), description="Providers to go on with, in order, when the first fails or its budget is spent."
    )
    local_only: bool = Field(default=False, description="true: nothing leaves this machine, whatever keys exist.")
    vllm: Vllm = Field(default_factory=Vllm, description="A vLLM server.")
    ollama: Ollama = Field(default_factory=Ollama, description="An Ollama server.")
    groq: Groq = Field(default_factory=Groq, description="Groq.")
    openai: OpenAI = Field(default_factory=OpenAI, description="Any server that speaks OpenAI's chat completions.")
    embedded: Embedded = Field(default_factory=Embedded, description="llama.cpp in a child process of miyabi's own.")
    replay: Replay = Field(default_factory=Replay, description="Recorded replies instead of a model.")
    default_temperature: Temperature | None = Field(
        default=None, description="Sampling temperature; null: what the model recommends (1.0 for gpt-oss)."
    )
    default_max_tokens: Count = Field(default=4096, description="Tokens of an answer; thought has more of its own.")
    default_reasoning_effort: Effort | None = Field(
        default=None, description="How hard the model thinks; null: codegen high, review medium, triage low."
    )
    timeout: Seconds | None = Field(
        default=None,
        description="Seconds to the first token and between tokens; null: Groq and vLLM 30, Ollama 300 while a model "
        "loads, embedded none.",
    )


class Budget(_Section):
    monthly_usd: Amount | None = Field(
        default=50, description="US dollars in a calendar month, all runs together; null: no cap."
    )
    per_run_usd: Amount | None = Field(default=1, description="US dollars in one run; null: no cap.")
    on_exceed: Literal["fallback", "stop"] = Field(
        default="fallback", description="At a cap: go on with the local providers of `llm.fallback`, or stop."
    )


class CheckSettings(_Section):
    name: Text = Field(description="Name in results.")
    command: Text = Field(description="Shell command; exit code 0 is a pass.")
    timeout: Seconds = Field(default=600, description="Seconds until it is stopped, which is a failure.")


class LimitSettings(_Section):
    steps: Count = Field(default=60, description="Replies of the model in one attempt.")
    seconds: Seconds = Field(default=1800, description="Seconds of one run.")
    output_bytes: Count = Field(
        default=100_000, description="Bytes of a command's output that are kept: its head and its tail."
    )
    tokens: Count | None = Field(default=None, description="Tokens of one run, input and output; null: no cap.")
    disk_bytes: Count = Field(
        default=16 << 30, description="Bytes that all commands of one run may write to the disk together."
    )
    memory_bytes: Count | None = Field(
        default=None,
        description="Bytes of memory of a command, all its processes together; null: three quarters of the machine's.",
    )


class WorktreeSettings(_Section):
    path: FilePath | None = Field(default=None, description="Folder for worktrees; null: the user's cache directory.")
    include: tuple[Text, ...] = Field(default=(), description="Ignored files, as globs, to copy into each worktree.")
    setup: tuple[Text, ...] = Field(default=(), description="Shell commands to run in each new worktree.")
    keep: bool = Field(default=False, description="Keep the worktree after the run.")


class SandboxSettings(_Section):
    mode: Literal["auto", "off"] = Field(
        default="auto", description="`auto`: bubblewrap, else Landlock; on macOS sandbox-exec; `off`: none."
    )
    network: bool = Field(default=False, description="Let commands use the network.")
    read: tuple[FilePath, ...] = Field(default=(), description="Further paths that commands may read.")
    write: tuple[FilePath, ...] = Field(default=(), description="Further paths that commands may write.")


class ToolSettings(_Section):
    name: Text = Field(description="Name in results.")
    command: Text = Field(description="Shell command that prints SARIF, or what a linter that is known prints.")
    timeout: Seconds = Field(default=600, description="Seconds until it is stopped.")


class ReviewSettings(_Section):
    fail_under: Score = Field(default=80, description="Lowest score, 0 to 100, that passes.")
    weights: Mapping[WeightName, Amount] = Field(
        default_factory=dict, description="Points that a finding costs, by category, level or severity."
    )
    tools: tuple[ToolSettings, ...] = Field(default=(), description="Further linters, beside those that are found.")


class TriageSettings(_Section):
    labels: FilePath | None = Field(default=None, description="File of the labels to use; null: the built-in scheme.")
    confidence: Share = Field(default=0.6, description="Below it, 0 to 1, a person decides: labels are withheld.")


class Price(_Section):
    input: Amount = Field(description="US dollars for a million tokens of input.")
    cached_input: Amount | None = Field(default=None, description="The same for cached input; null: as `input`.")
    output: Amount = Field(description="US dollars for a million tokens of output.")
    since: date | None = Field(default=None, description="The day on which this price was read, YYYY-MM-DD.")
    provider: Server | None = Field(default=None, description="The only provider that it holds for; null: every one.")


class GithubSettings(_Section):
    token: Secret = Field(default=None, description="Token for pull requests and issues.")


class Settings(_Section):
    """All settings, resolved; `miyabi_cli.settings.sources.load_settings` makes it."""

    llm: Llm = Field(default_factory=Llm, description="Models, and who serves them.")
    budget: Budget = Field(default_factory=Budget, description="What may be spent.")
    checks: tuple[CheckSettings, ...] = Field(
        default=(), description="Commands that prove a change; none: found from the repository."
    )
    limits: LimitSettings = Field(default_factory=LimitSettings, description="Where a run ends.")
    worktree: WorktreeSettings = Field(default_factory=WorktreeSettings, description="Where an agent works.")
    sandbox: SandboxSettings = Field(default_factory=SandboxSettings, description="What an agent's commands can reach.")
    review: ReviewSettings = Field(default_factory=ReviewSettings, description="`miyabi review`.")
    triage: TriageSettings = Field(default_factory=TriageSettings, description="`miyabi triage`.")
    prices: Mapping[str, Price] = Field(
        default_factory=dict, description="Prices by model name, before those of the built-in table."
    )
    github: GithubSettings = Field(default_factory=GithubSettings, description="GitHub.")


def section_of(place: tuple[str | int, ...]) -> type[BaseModel] | None:
    """Return the model whose keys stand at this place, through lists and free maps; None where there is none."""
    section: type[BaseModel] = Settings
    inside_container = False
    for step in place:
        if inside_container:
            inside_container = False
            continue
        field = section.model_fields.get(str(step))
        model = _model_in(field.annotation) if field else None
        if field is None or model is None:
            return None
        inside_container = field.annotation is not model
        section = model
    return None if inside_container else section


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for model in map(_model_in, get_args(annotation)) if model), None)


def known_keys(path: KeyPath = ()) -> Iterator[tuple[KeyPath, FieldInfo]]:
    """Yield each key that holds a value, in the schema's order; sections are walked, lists and free maps are not."""
    section = section_of(path)
    for name, field in section.model_fields.items() if section else ():
        if section_of((*path, name)):
            yield from known_keys((*path, name))
        else:
            yield (*path, name), field


def is_secret(path: tuple[Any, ...]) -> bool:
    """Say whether the value at this place must not be shown."""
    return bool(path) and path[-1] in ("api_key", "token")

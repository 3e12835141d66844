"""The clients that are tried at the gateway: what is installed, what is set, and what each one does.

Only data. The page docs/clients.md is generated from it and from the scripts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE / "environments"
SCRIPTS = HERE / "scripts"

Task = Literal[
    "whole", "streamed", "tool", "structured", "speech", "transcript", "dictation", "edit"
]
Wire = Literal["chat", "messages", "responses", "media", "generate_content"]

URL, KEY = "{url}", "{key}"
"""Stand for the gateway's address (without `/v1`) and the caller's key."""

LANGUAGES = {".py": "Python", ".mjs": "Node", ".go": "Go", ".java": "Java"}
"""What scripts are written in, by their suffix."""
ALL: tuple[Task, ...] = ("whole", "streamed", "tool")
MEDIA: dict[Task, str] = {
    "speech": "speech",
    "transcript": "transcriptions",
    "dictation": "transcriptions",
    "edit": "image_edits",
}
"""Tasks on audio and images, and the wire of each."""
_OPENAI = {"OPENAI_BASE_URL": f"{URL}/v1", "OPENAI_API_KEY": KEY}
_GOOGLE = {"GOOGLE_GEMINI_BASE_URL": URL, "GEMINI_API_KEY": KEY}
_ANTHROPIC = {"ANTHROPIC_BASE_URL": URL, "ANTHROPIC_API_KEY": KEY}


@dataclass(frozen=True, slots=True)
class Client:
    """One entry point of a client.

    Attributes:
        name: its script is scripts/NAME.py, or NAME.mjs, NAME.go or NAME.java.
        packages: what a user installs; the environment's lock has the versions.
        environment: the folder under environments/ with its lock.
        wire: the wire it speaks as installed; `media` for those of `MEDIA`.
        env: what is set for it; all else that it needs is in its script, and is on the page.
        quiet: turns its telemetry and update checks off.
        tasks: what is tried.
        blocking: whether the key's customer has a blocking budget, as most do.
        like: the client whose script it has, with `settings` of its own.
        settings: more lines of its configuration file.
        thinks: whether it asks for reasoning, so that it needs models that have it.
    """

    name: str
    title: str
    packages: tuple[str, ...]
    environment: str
    wire: Wire
    env: Mapping[str, str] = field(default_factory=dict)
    quiet: Mapping[str, str] = field(default_factory=dict)
    tasks: tuple[Task, ...] = ALL
    blocking: bool = True
    like: str = ""
    settings: str = ""
    thinks: bool = False

    @property
    def script(self) -> Path:
        """The program that tries it."""
        file = (self.like or self.name).replace("-", "_")
        return next(path for kind in LANGUAGES if (path := SCRIPTS / f"{file}{kind}").exists())

    @property
    def ways(self) -> str:
        """The key of the routes that it asks for."""
        return "reasoning" if self.thinks else self.wire

    @property
    def language(self) -> str:
        """What its users write."""
        if self.packages_are_node and self.script.suffix != ".mjs":
            return "command line"
        return LANGUAGES[self.script.suffix]

    @property
    def packages_are_node(self) -> bool:
        """Whether it comes from npm."""
        return (ENVIRONMENTS / self.environment / "package.json").exists()

    def versions(self) -> dict[str, str]:
        """The locked version of each of its packages."""
        folder = ENVIRONMENTS / self.environment
        if self.packages_are_node:
            locked = json.loads((folder / "package-lock.json").read_text("utf-8"))["packages"]
            return {name: locked[f"node_modules/{name}"]["version"] for name in self.packages}
        if (folder / "go.mod").exists():
            found = dict(
                re.findall(
                    r"^\t(\S+) v(\S+)$", (folder / "go.mod").read_text("utf-8"), re.MULTILINE
                )
            )
            return {name: found[name] for name in self.packages}
        if (folder / "pom.xml").exists():
            pom = (folder / "pom.xml").read_text("utf-8")
            found = dict(
                re.findall(r"<artifactId>(\S+)</artifactId>\s*<version>(\S+)</version>", pom)
            )
            return {name: found[name] for name in self.packages}
        lock = (folder / "requirements.txt").read_text("utf-8")
        found = dict(re.findall(r"^([a-z0-9._-]+)==([^\s;\\]+)", lock, flags=re.MULTILINE))
        return {name: found[name] for name in self.packages}


_OPENAI_OLD = {"OPENAI_API_BASE": f"{URL}/v1", "OPENAI_API_KEY": KEY}
_OPENAI_GO = "github.com/openai/openai-go/v3"
_ANTHROPIC_GO = "github.com/anthropics/anthropic-sdk-go/v2"
_LITELLM = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}

_HAYSTACK = {"HAYSTACK_TELEMETRY_ENABLED": "False"}
_AGENTS = {"OPENAI_AGENTS_DISABLE_TRACING": "1"}
_CREW = {"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false"}
_HUGGING_FACE = {"HF_HUB_DISABLE_TELEMETRY": "1"}
_PROMPTFOO = {"PROMPTFOO_DISABLE_TELEMETRY": "1", "PROMPTFOO_DISABLE_UPDATE": "1"}
_CLAUDE_QUIET = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}

CLIENTS = (
    Client("openai-python", "OpenAI, chat completions", ("openai",), "sdk", "chat", _OPENAI),
    Client(
        "openai-responses-python", "OpenAI, Responses", ("openai",), "sdk", "responses", _OPENAI
    ),
    Client(
        "openai-media-python",
        "OpenAI, audio and images",
        ("openai",),
        "sdk",
        "media",
        _OPENAI,
        tasks=tuple(MEDIA),
    ),
    Client("anthropic-python", "Anthropic", ("anthropic",), "sdk", "messages", _ANTHROPIC),
    Client(
        "google-genai-python",
        "Google",
        ("google-genai",),
        "google",
        "generate_content",
        _GOOGLE,
        tasks=(*ALL, "structured"),
    ),
    Client(
        "instructor-openai",
        "instructor, OpenAI",
        ("instructor",),
        "small",
        "chat",
        _OPENAI,
        tasks=("structured",),
    ),
    Client(
        "instructor-anthropic",
        "instructor, Anthropic",
        ("instructor",),
        "small",
        "messages",
        _ANTHROPIC,
        tasks=("structured",),
    ),
    Client("llm-openai", "llm, OpenAI", ("llm",), "small", "chat", _OPENAI),
    Client(
        "llm-claude",
        "llm, Anthropic",
        ("llm", "llm-anthropic"),
        "small",
        "messages",
        _ANTHROPIC,
    ),
    Client(
        "langchain-openai-python",
        "LangChain, OpenAI",
        ("langchain-openai", "langchain"),
        "langchain",
        "chat",
        _OPENAI,
    ),
    Client(
        "langchain-anthropic-python",
        "LangChain, Anthropic",
        ("langchain-anthropic", "langchain"),
        "langchain",
        "messages",
        _ANTHROPIC,
    ),
    Client(
        "llama-index-openai",
        "LlamaIndex, OpenAI",
        ("llama-index-llms-openai",),
        "llama",
        "chat",
        _OPENAI_OLD,
    ),
    Client(
        "llama-index-anthropic",
        "LlamaIndex, Anthropic",
        ("llama-index-llms-anthropic", "anthropic"),
        "llama",
        "messages",
        _ANTHROPIC,
    ),
    Client(
        "haystack-openai",
        "Haystack, OpenAI chat",
        ("haystack-ai",),
        "haystack",
        "chat",
        _OPENAI,
        _HAYSTACK,
    ),
    Client(
        "haystack-openai-responses",
        "Haystack, OpenAI Responses",
        ("haystack-ai",),
        "haystack",
        "responses",
        _OPENAI,
        _HAYSTACK,
    ),
    Client(
        "haystack-anthropic",
        "Haystack, Anthropic",
        ("haystack-ai", "anthropic-haystack"),
        "haystack",
        "messages",
        _ANTHROPIC,
        _HAYSTACK,
    ),
    Client(
        "litellm-openai", "LiteLLM SDK, OpenAI", ("litellm",), "litellm", "chat", _OPENAI, _LITELLM
    ),
    Client(
        "litellm-anthropic",
        "LiteLLM SDK, Anthropic",
        ("litellm",),
        "litellm",
        "messages",
        _ANTHROPIC,
        _LITELLM,
    ),
    Client(
        "dspy-openai",
        "DSPy",
        ("dspy",),
        "litellm",
        "chat",
        _OPENAI,
        _LITELLM,
        tasks=("whole", "structured"),
    ),
    Client(
        "smolagents-openai", "smolagents", ("smolagents",), "agents", "chat", _OPENAI, _HUGGING_FACE
    ),
    Client(
        "openai-agents",
        "OpenAI Agents SDK",
        ("openai-agents",),
        "agents",
        "responses",
        _OPENAI,
        _AGENTS,
    ),
    Client(
        "pydantic-ai-openai",
        "Pydantic AI, OpenAI",
        ("pydantic-ai-slim",),
        "agents",
        "responses",
        _OPENAI,
        tasks=(*ALL, "structured"),
    ),
    Client(
        "pydantic-ai-anthropic",
        "Pydantic AI, Anthropic",
        ("pydantic-ai-slim",),
        "agents",
        "messages",
        _ANTHROPIC,
        tasks=(*ALL, "structured"),
    ),
    Client(
        "autogen-openai",
        "AutoGen, OpenAI",
        ("autogen-ext", "autogen-agentchat"),
        "autogen",
        "chat",
        _OPENAI,
    ),
    Client(
        "autogen-anthropic",
        "AutoGen, Anthropic",
        ("autogen-ext", "autogen-agentchat", "anthropic"),
        "autogen",
        "messages",
        _ANTHROPIC,
    ),
    Client(
        "crewai-openai",
        "CrewAI, OpenAI",
        ("crewai",),
        "crewai",
        "chat",
        _OPENAI,
        _CREW,
        tasks=("whole", "tool"),
    ),
    Client(
        "crewai-anthropic",
        "CrewAI, Anthropic",
        ("crewai", "anthropic"),
        "crewai",
        "messages",
        _ANTHROPIC,
        _CREW,
        tasks=("whole", "tool"),
    ),
    Client("openai-node", "OpenAI, chat completions", ("openai",), "node-sdk", "chat", _OPENAI),
    Client(
        "openai-responses-node", "OpenAI, Responses", ("openai",), "node-sdk", "responses", _OPENAI
    ),
    Client(
        "openai-media-node",
        "OpenAI, audio and images",
        ("openai",),
        "node-sdk",
        "media",
        _OPENAI,
        tasks=tuple(MEDIA),
    ),
    Client(
        "anthropic-node", "Anthropic", ("@anthropic-ai/sdk",), "node-sdk", "messages", _ANTHROPIC
    ),
    Client(
        "google-genai-node",
        "Google",
        ("@google/genai",),
        "google-node",
        "generate_content",
        _GOOGLE,
        tasks=(*ALL, "structured"),
    ),
    Client(
        "ai-sdk-openai",
        "AI SDK, OpenAI",
        ("ai", "@ai-sdk/openai"),
        "node-sdk",
        "responses",
        _OPENAI,
        tasks=(*ALL, "structured"),
    ),
    Client(
        "ai-sdk-compatible",
        "AI SDK, OpenAI-compatible",
        ("ai", "@ai-sdk/openai-compatible"),
        "node-sdk",
        "chat",
        tasks=(*ALL, "structured"),
    ),
    Client(
        "ai-sdk-anthropic",
        "AI SDK, Anthropic",
        ("ai", "@ai-sdk/anthropic"),
        "node-sdk",
        "messages",
        tasks=(*ALL, "structured"),
    ),
    Client(
        "langchain-openai-node",
        "LangChain, OpenAI",
        ("@langchain/openai", "@langchain/core"),
        "node-sdk",
        "chat",
        _OPENAI,
    ),
    Client(
        "langchain-anthropic-node",
        "LangChain, Anthropic",
        ("@langchain/anthropic", "@langchain/core"),
        "node-sdk",
        "messages",
        _ANTHROPIC,
    ),
    Client("openai-go", "OpenAI, chat completions", (_OPENAI_GO,), "go", "chat", _OPENAI),
    Client("openai-responses-go", "OpenAI, Responses", (_OPENAI_GO,), "go", "responses", _OPENAI),
    Client("anthropic-go", "Anthropic", (_ANTHROPIC_GO,), "go", "messages", _ANTHROPIC),
    Client("openai-java", "OpenAI, chat completions", ("openai-java",), "java", "chat", _OPENAI),
    Client(
        "openai-responses-java",
        "OpenAI, Responses",
        ("openai-java",),
        "java",
        "responses",
        _OPENAI,
    ),
    Client(
        "claude-code",
        "Claude Code",
        ("@anthropic-ai/claude-code",),
        "claude-code",
        "messages",
        _ANTHROPIC,
        _CLAUDE_QUIET,
    ),
    Client(
        "codex",
        "Codex without a blocking budget",
        ("@openai/codex",),
        "codex",
        "responses",
        {"SPANLEDGER_API_KEY": KEY},
        tasks=("whole", "tool"),
        blocking=False,
        thinks=True,
    ),
    Client(
        "codex-budget",
        "Codex",
        ("@openai/codex",),
        "codex",
        "responses",
        {"SPANLEDGER_API_KEY": KEY},
        tasks=("whole", "tool"),
        like="codex",
        thinks=True,
        settings='web_search = "disabled"',
    ),
    Client(
        "promptfoo",
        "promptfoo",
        ("promptfoo",),
        "promptfoo",
        "chat",
        _OPENAI,
        _PROMPTFOO,
        ("whole", "structured"),
    ),
)
FAILING: dict[tuple[str, str, str], str] = {}
"""Client, task and way (`*`: any) to what does not work yet."""

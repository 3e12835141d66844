"""How providers report usage on OpenAI's wire: the tables that decide how it is read.

`PLACES` says where a count may be, `USAGE_FORMS` how the counts add up, `STREAMS` in which events they
arrive. Each row has its source: a provider's documentation, or the public report in which it was
seen. `docs/usage.md` is generated from these tables. Data only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from spanledger.pricing.usage import COUNT_DECREASED, PROMPT_MISSING, TOTAL_ALONE

TOTAL_MISMATCH = "total_mismatch"
CACHE_UNPLACED = "cache_unplaced"
PARTS_MISMATCH = "parts_mismatch"

AMBIGUITIES = {
    TOTAL_MISMATCH: (
        "The total is not the sum of the counts in any known form. Any surplus of the total is"
        " charged as output, and cached tokens that do not fit into the prompt are charged in"
        " addition to it."
    ),
    CACHE_UNPLACED: (
        "Cached tokens have Anthropic's names and there is no total, so it is unknown whether the"
        " prompt includes them. They are charged in addition to it."
    ),
    PARTS_MISMATCH: (
        "The audio tokens, or reasoning and speech together, exceed the input or output that they"
        " are part of. All of that input or output is charged at its highest price per token."
    ),
    PROMPT_MISSING: (
        "The answer's tokens were reported and the prompt's were not. The prompt is the total less"
        " the answer, or else an estimate of ours."
    ),
    TOTAL_ALONE: (
        "Only a total was reported. We estimate the prompt; the rest is charged as output."
    ),
    COUNT_DECREASED: "A cumulative count decreased during a stream. The largest one is charged.",
}
"""Why usage was ambiguous, and what is charged then."""


class Place(NamedTuple):
    """Where a count may be in `usage`, and who puts it there."""

    path: str
    source: str


PLACES: dict[str, tuple[Place, ...]] = {
    "prompt": (
        Place("prompt_tokens", "OpenAI API reference"),
        Place("input_tokens", "OpenAI Responses API; QuantumNous/new-api dto.Usage"),
    ),
    "completion": (
        Place("completion_tokens", "OpenAI API reference"),
        Place("output_tokens", "OpenAI Responses API; QuantumNous/new-api dto.Usage"),
    ),
    "total": (Place("total_tokens", "OpenAI API reference"),),
    "read": (
        Place("prompt_tokens_details.cached_tokens", "OpenAI prompt caching guide"),
        Place("cache_read_input_tokens", "BerriAI/litellm#11364"),
        Place("prompt_cache_hit_tokens", "DeepSeek API reference"),
        Place("cached_tokens", "aallan/vera-bench#97 (Moonshot); tmustier/pine-of-glass#83"),
        Place("num_cached_tokens", "0xPlaygrounds/rig#1724 (Mistral's OpenAPI file)"),
        Place("prompt_token_details.cached_tokens", "vercel/ai#14382 (Mistral)"),
        Place("input_tokens_details.cached_tokens", "OpenAI Responses API"),
    ),
    "write": (
        Place("prompt_tokens_details.cache_write_tokens", "aplisay/llm-agent#345 (OpenRouter)"),
        Place("prompt_tokens_details.cache_creation_tokens", "BerriAI/litellm#11364"),
        Place("prompt_tokens_details.cache_creation_input_tokens", "BerriAI/litellm#40090 (Qwen)"),
        Place("prompt_tokens_details.cached_creation_tokens", "QuantumNous/new-api dto.Usage"),
        Place("cache_creation_input_tokens", "BerriAI/litellm#11364"),
        Place("input_tokens_details.cache_write_tokens", "OpenAI Responses API"),
    ),
    "write_1h": (
        Place(
            "prompt_tokens_details.cache_creation_token_details.ephemeral_1h_input_tokens",
            "LiteLLM's Usage",
        ),
        Place("cache_creation.ephemeral_1h_input_tokens", "Anthropic prompt caching guide"),
        Place("claude_cache_creation_1_h_tokens", "QuantumNous/new-api dto.Usage"),
    ),
    "reasoning": (
        Place("completion_tokens_details.reasoning_tokens", "OpenAI reasoning guide"),
        Place("reasoning_tokens", "SGLang's UsageInfo; bgeneto/open-webui-cost-tracker#6"),
        Place("output_tokens_details.reasoning_tokens", "OpenAI Responses API"),
    ),
    "citations": (Place("citation_tokens", "bgeneto/open-webui-cost-tracker#6 (Perplexity)"),),
    "audio_input": (
        Place("prompt_tokens_details.audio_tokens", "OpenAI audio guide"),
        Place("input_token_details.audio_tokens", "OpenAI API reference (transcriptions)"),
    ),
    "audio_output": (Place("completion_tokens_details.audio_tokens", "OpenAI audio guide"),),
    "searches": (
        Place("prompt_tokens_details.web_search_requests", "LiteLLM's Usage (Gemini)"),
        Place("server_tool_use.web_search_requests", "LiteLLM's Usage (Anthropic)"),
        Place("num_search_queries", "bgeneto/open-webui-cost-tracker#6 (Perplexity)"),
        Place("server_side_tool_usage_details.web_search_calls", "xAI API reference"),
    ),
}
"""For each count the places where it is looked for, in this order; the first above zero is used."""


class Told(NamedTuple):
    """The counts that decide the form; a part that was not reported is 0.

    Attributes:
        total: 0 if it was not reported.
    """

    prompt: int
    completion: int
    total: int
    read: int = 0
    write: int = 0
    reasoning: int = 0
    citations: int = 0

    def sum(self, terms: str) -> int:
        """The value of a sum such as `prompt + read - total`."""
        value, sign = 0, 1
        for word in terms.split():
            if word in "+-":
                sign = 1 if word == "+" else -1
            else:
                value += sign * int(getattr(self, word))
        return value


@dataclass(frozen=True, slots=True)
class UsageForm:
    """A way in which the counts of one usage add up.

    Attributes:
        total: the sum that `total_tokens` must equal for this row to fit. Empty: it may be anything
            above prompt and completion.
        input: the sum that makes up all input.
        output: the sum that makes up all output.
        needs: parts that must have been reported for this row to differ from others.
        without_total: whether the row also fits if no total was reported.
    """

    name: str
    total: str
    input: str
    output: str
    sources: tuple[str, ...]
    needs: tuple[str, ...] = ()
    without_total: bool = False

    def fits(self, told: Told) -> bool:
        """Whether the counts are in this form."""
        if not all(getattr(told, part) for part in self.needs):
            return False
        if told.citations and "citations" not in self.needs:
            return False
        if not self.total:
            if not _only_thoughts_are_left(told):
                return False
        elif not told.total:
            if not self.without_total:
                return False
        elif told.total != told.sum(self.total):
            return False
        return told.read + told.write <= told.sum(self.input) and told.reasoning <= told.sum(
            self.output
        )


def _only_thoughts_are_left(told: Told) -> bool:
    """Whether the total's surplus over the counts can only be unreported reasoning: no reasoning
    was reported, and every part of the cache is larger than the surplus."""
    surplus = told.total - told.prompt - told.completion
    cache = [part for part in (told.read, told.write) if part]
    return surplus > 0 and not told.reasoning and all(surplus < part for part in cache)


USAGE_FORMS: tuple[UsageForm, ...] = (
    UsageForm(
        "everything included",
        total="prompt + completion",
        input="prompt",
        output="completion",
        sources=(
            "OpenAI API reference",
            "Azure, DeepSeek, Groq, Mistral, Moonshot, OpenRouter, Qwen, vLLM, SGLang, Zhipu",
            "BerriAI/litellm#11364",
        ),
        without_total=True,
    ),
    UsageForm(
        "reasoning outside the answer",
        total="prompt + completion + reasoning",
        input="prompt",
        output="completion + reasoning",
        sources=(
            "xAI consumption guide",
            "Wei-Shaw/sub2api#5771",
            "vercel/ai#12425",
            "router-for-me/CLIProxyAPI#5733 (Gemini)",
        ),
        needs=("reasoning",),
    ),
    UsageForm(
        "cache outside the prompt",
        total="prompt + read + write + completion",
        input="prompt + read + write",
        output="completion",
        sources=("Portkey-AI/gateway#1211", "Portkey-AI/gateway#1754"),
    ),
    UsageForm(
        "reads inside the prompt, writes outside",
        total="prompt + write + completion",
        input="prompt + write",
        output="completion",
        sources=("BerriAI/litellm#15270",),
        needs=("write",),
    ),
    UsageForm(
        "cache outside the prompt and the total",
        total="prompt + completion",
        input="prompt + read + write",
        output="completion",
        sources=("zenml-io/kitaru#464", "agentjido/req_llm#316"),
        without_total=True,
    ),
    UsageForm(
        "cache inside the prompt, not in the total",
        total="prompt - read - write + completion",
        input="prompt",
        output="completion",
        sources=("browser-use/browser-use#4294", "crewAIInc/crewAI#6788"),
    ),
    UsageForm(
        "reasoning outside the answer and the total",
        total="prompt + completion",
        input="prompt",
        output="completion + reasoning",
        sources=("LiveBench/LiveBench#503",),
        needs=("reasoning",),
        without_total=True,
    ),
    UsageForm(
        "citations and reasoning outside everything",
        total="prompt + completion",
        input="prompt + citations",
        output="completion + reasoning",
        sources=("Perplexity Sonar Deep Research pricing", "bgeneto/open-webui-cost-tracker#6"),
        needs=("citations",),
        without_total=True,
    ),
    UsageForm(
        "reasoning only in the total",
        total="",
        input="prompt",
        output="total - prompt",
        sources=(
            "mozilla-ai/any-llm#1290 (Gemini)",
            "Clarifai/clarifai-python#978",
            "VariantConst/OpenWebUI-Monitor#99",
        ),
    ),
)
"""The first row that fits decides."""


class Stream(NamedTuple):
    """How usage arrives in a stream, and which of it counts."""

    told: str
    read: str
    sources: tuple[str, ...]


STREAMS: tuple[Stream, ...] = (
    Stream(
        "once, in a last chunk without choices; `null` before",
        "as reported",
        ("OpenAI API reference",),
    ),
    Stream(
        "in each chunk, cumulative",
        "the last one, plus our estimate of any text after it",
        ("vllm-project/vllm#5708", "sgl-project/sglang#12241", "InsForge/InsForge#2015"),
    ),
    Stream(
        "twice, in two chunks",
        "one of them",
        ("camel-ai/camel#4217", "Portkey-AI/gateway#1338"),
    ),
    Stream(
        "in the chunk with the finish reason, then a chunk without",
        "as reported",
        ("openai/openai-agents-python#2126", "BerriAI/litellm#17136 (xAI)"),
    ),
    Stream(
        "zeros first, real counts later",
        "the later ones",
        ("router-for-me/CLIProxyAPI#4053", "sgl-project/sglang#20685"),
    ),
    Stream(
        "real counts first, zeros later",
        "the earlier ones: a zero does not replace a reported count",
        ("envoyproxy/ai-gateway#1631",),
    ),
    Stream(
        "in `x_groq.usage`",
        "as `usage`",
        ("vercel/ai#1651 (Groq)", "Portkey-AI/gateway#1072"),
    ),
    Stream(
        "in `choices[].usage`",
        "as `usage`",
        ("earendil-works/pi#2017 (Moonshot)", "QuantumNous/new-api#2550"),
    ),
    Stream(
        "a prompt of zero, but a count for the answer",
        "our estimate of the prompt (`prompt_missing`)",
        ("MiXaiLL76/auto_ai_router#142 (CometAPI)",),
    ),
    Stream(
        "Anthropic: input in `message_start`, output in `message_delta`, cumulative",
        "the last value of each count, except zeros",
        ("Anthropic streaming guide", "tensorzero/tensorzero#5481", "envoyproxy/ai-gateway#2239"),
    ),
)

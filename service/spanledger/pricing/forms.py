"""The ways in which providers tell usage on OpenAI's wire: the tables that decide how it is read.

`PLACES` says where a count may stand, `FORMS` how the counts add up, `STREAMS` in which events they
come. Each row names its source: a provider's documentation, or the public report in which it was
seen. `docs/usage.md` is generated from these tables. Nothing here reads anything.
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
        "The total is not the sum of the counts in any known form. What it has beyond them is"
        " charged as output, and cached tokens that do not fit into the prompt are charged beside"
        " it."
    ),
    CACHE_UNPLACED: (
        "Cached tokens come under Anthropic's names and without a total, so nothing says whether the"
        " prompt includes them. They are charged beside it."
    ),
    PARTS_MISMATCH: (
        "Sound, or reasoning and speech together, are more than the side they are part of. All of"
        " that side is charged at the price of its dearest tokens."
    ),
    PROMPT_MISSING: (
        "The answer's tokens were counted and the prompt's were not. The prompt is what the total"
        " leaves for it, or else is counted here."
    ),
    TOTAL_ALONE: (
        "Only a total was told. The prompt is counted here, and the rest is charged as output."
    ),
    COUNT_DECREASED: "A cumulative count fell within a stream. The largest one is charged.",
}
"""Why usage could be read in more than one way, and what is charged then."""


class Place(NamedTuple):
    """Where a count may stand in `usage`, and who puts it there."""

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
    "audio_input": (Place("prompt_tokens_details.audio_tokens", "OpenAI audio guide"),),
    "audio_output": (Place("completion_tokens_details.audio_tokens", "OpenAI audio guide"),),
    "searches": (
        Place("prompt_tokens_details.web_search_requests", "LiteLLM's Usage (Gemini)"),
        Place("server_tool_use.web_search_requests", "LiteLLM's Usage (Anthropic)"),
        Place("num_search_queries", "bgeneto/open-webui-cost-tracker#6 (Perplexity)"),
    ),
}
"""For each count the places it is looked for, in this order; the first that says more than zero
stands."""


class Told(NamedTuple):
    """The counts that decide the form; a part that was not told is 0.

    Attributes:
        total: 0 where it was not told.
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
class Form:
    """A way in which the counts of one usage add up.

    Attributes:
        total: what `total_tokens` is the sum of; a row holds where that is so. Empty where it may
            be anything above prompt and completion.
        input: what all input is the sum of.
        output: what all output is the sum of.
        needs: parts that must have been told for this row to say something of its own.
        without_total: whether the row also holds where no total was told.
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
    """Whether what the total has beyond the counts can be nothing but reasoning that was not named:
    there is none that was, and no part of the cache is as small as it."""
    surplus = told.total - told.prompt - told.completion
    cache = [part for part in (told.read, told.write) if part]
    return surplus > 0 and not told.reasoning and all(surplus < part for part in cache)


FORMS: tuple[Form, ...] = (
    Form(
        "all inside",
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
    Form(
        "reasoning beside the answer",
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
    Form(
        "cache beside the prompt",
        total="prompt + read + write + completion",
        input="prompt + read + write",
        output="completion",
        sources=("Portkey-AI/gateway#1211", "Portkey-AI/gateway#1754"),
    ),
    Form(
        "reads inside the prompt, writes beside it",
        total="prompt + write + completion",
        input="prompt + write",
        output="completion",
        sources=("BerriAI/litellm#15270",),
        needs=("write",),
    ),
    Form(
        "cache beside the prompt and the total",
        total="prompt + completion",
        input="prompt + read + write",
        output="completion",
        sources=("zenml-io/kitaru#464", "agentjido/req_llm#316"),
        without_total=True,
    ),
    Form(
        "cache inside the prompt, left out of the total",
        total="prompt - read - write + completion",
        input="prompt",
        output="completion",
        sources=("browser-use/browser-use#4294", "crewAIInc/crewAI#6788"),
    ),
    Form(
        "reasoning beside the answer and the total",
        total="prompt + completion",
        input="prompt",
        output="completion + reasoning",
        sources=("LiveBench/LiveBench#503",),
        needs=("reasoning",),
        without_total=True,
    ),
    Form(
        "citations and reasoning beside everything",
        total="prompt + completion",
        input="prompt + citations",
        output="completion + reasoning",
        sources=("Perplexity Sonar Deep Research pricing", "bgeneto/open-webui-cost-tracker#6"),
        needs=("citations",),
        without_total=True,
    ),
    Form(
        "reasoning in the total alone",
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
    """How usage comes in a stream, and what is made of it."""

    told: str
    read: str
    sources: tuple[str, ...]


STREAMS: tuple[Stream, ...] = (
    Stream(
        "once, in a last chunk without choices; `null` before",
        "as it stands",
        ("OpenAI API reference",),
    ),
    Stream(
        "in each chunk, cumulative",
        "the last one stands; text after it is counted here",
        ("vllm-project/vllm#5708", "sgl-project/sglang#12241", "InsForge/InsForge#2015"),
    ),
    Stream(
        "twice, in two chunks",
        "once",
        ("camel-ai/camel#4217", "Portkey-AI/gateway#1338"),
    ),
    Stream(
        "in the chunk with the finish reason, then a chunk without",
        "as it stands",
        ("openai/openai-agents-python#2126", "BerriAI/litellm#17136 (xAI)"),
    ),
    Stream(
        "zeros first, real counts later",
        "the later ones",
        ("router-for-me/CLIProxyAPI#4053", "sgl-project/sglang#20685"),
    ),
    Stream(
        "real counts first, zeros later",
        "the earlier ones: a zero does not undo what was told",
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
        "a prompt of zero, and the answer counted",
        "the prompt is counted here (`prompt_missing`)",
        ("MiXaiLL76/auto_ai_router#142 (CometAPI)",),
    ),
    Stream(
        "Anthropic: input in `message_start`, output in `message_delta`, cumulative",
        "each count as it was last told, zeros aside",
        ("Anthropic streaming guide", "tensorzero/tensorzero#5481", "envoyproxy/ai-gateway#2239"),
    ),
)

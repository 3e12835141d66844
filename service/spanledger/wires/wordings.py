"""How providers say that a prompt is too long, or that they refuse its content: one row each.

Data only. `failures` matches these patterns against error messages, `docs/provider-errors.md` is
generated from them, and a test checks every example. A new row needs the exact wording and its
source.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wording:
    """One message of a provider.

    Attributes:
        provider: who sends it, under its usual name.
        example: the text exactly as received.
        pattern: a regular expression that matches the text, ignoring case. Empty if the pattern of
            another row matches.
        source: where it was seen.
        code: the error's code or type, if it is sufficient by itself.
    """

    provider: str
    example: str
    pattern: str
    source: str
    code: str = ""


CONTEXT = (
    Wording(
        "OpenAI",
        "This model's maximum context length is 4097 tokens. However, your messages resulted in"
        " 192871 tokens. Please reduce the length of the messages.",
        r"maximum context length|model's maximum context limit",
        "orhanerday/ChatGPT#17",
        "context_length_exceeded",
    ),
    Wording(
        "OpenAI",
        "Your input exceeds the context window of this model. Please adjust your input and try"
        " again.",
        r"context window",
        "code-yeongyu/senpi#1466",
    ),
    Wording(
        "OpenAI",
        "Invalid 'messages[0].content': string too long. Expected a string with maximum length"
        " 1048576, but got a string with length 1600000 instead.",
        r"invalid '(?:messages|input|prompt)[^']*': string too long",
        "BerriAI/litellm: exception_mapping_utils.py",
    ),
    Wording(
        "Azure OpenAI",
        "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in"
        " 300012 tokens. Please reduce the length of the messages.",
        r"input tokens exceed the configured limit",
        "BerriAI/litellm: exception_mapping_utils.py",
    ),
    Wording(
        "Anthropic",
        "prompt is too long: 205351 tokens > 200000 maximum",
        r"prompt (?:is )?too long",
        "coder/aibridge#56",
    ),
    Wording(
        "Anthropic",
        "input length and `max_tokens` exceed context limit: 90402 + 116650 > 204648, decrease"
        " input length or `max_tokens` and try again",
        r"exceed context limit",
        "stackblitz/bolt.new#7414",
    ),
    Wording(
        "Amazon Bedrock",
        "Input is too long for requested model.",
        r"input is too long",
        "earendil-works/pi: overflow.ts",
    ),
    Wording(
        "Amazon Bedrock",
        "prompt tokens (210000) exceed model maximum (200000)",
        r"prompt tokens \(\d+\) exceed model maximum",
        "BerriAI/litellm: exception_mapping_utils.py",
    ),
    Wording(
        "Amazon Bedrock",
        "Too many input tokens. Max input tokens: 128000, request input token count: 140000",
        r"too many input tokens",
        "agno-agi/agno: tests of context errors",
    ),
    Wording(
        "Gemini",
        "The input token count (1200293) exceeds the maximum number of tokens allowed (1048576).",
        r"input token count.{0,40}exceeds",
        "google-gemini/gemini-cli#6678",
    ),
    Wording(
        "Vertex AI",
        "Unable to submit request because the input token count is 32825 but model only supports"
        " up to 32768.",
        r"input token count is \d+ but",
        "NousResearch/hermes-agent#99701",
    ),
    Wording(
        "Mistral",
        "Prompt contains 40013 tokens and 0 draft tokens, too large for model with 32768 maximum"
        " context length",
        "",
        "earendil-works/pi: overflow.ts",
    ),
    Wording(
        "Cohere",
        "too many tokens: total number of tokens (prompt and prediction) cannot exceed 2048 -"
        " received 6354. Try using a shorter prompt or a smaller max_tokens value.",
        r"too many tokens",
        "cohere-ai/sandbox-topically#4",
    ),
    Wording(
        "Groq",
        "Please reduce the length of the messages or completion.",
        r"reduce the length of (?:the |your )?(?:input )?(?:messages|input|prompt)",
        "earendil-works/pi: overflow.ts",
    ),
    Wording(
        "DeepSeek",
        "This model's maximum context length is 65536 tokens. However, you requested 69648 tokens"
        " (69648 in the messages, 0 in the completion). Please reduce the length of the messages"
        " or completion.",
        "",
        "RooCodeInc/Roo-Code#1767",
    ),
    Wording(
        "xAI",
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        r"maximum prompt length",
        "earendil-works/pi: overflow.ts",
    ),
    Wording(
        "Together AI",
        "The input (263000 tokens) is longer than the model's context length (262144 tokens).",
        r"context[_ ]length",
        "openclaw/openclaw#129352",
    ),
    Wording(
        "Fireworks",
        "The prompt is too long: 184829, model maximum context length: 131071",
        "",
        "Fireworks and Ollama's cloud, quoted in public logs",
    ),
    Wording(
        "Cerebras",
        "Please reduce the length of the messages or completion. Current length is 9013 while"
        " limit is 8192",
        r"current length is \d+ while limit is",
        "BerriAI/litellm: exception_mapping_utils.py",
    ),
    Wording(
        "OpenRouter",
        "This endpoint's maximum context length is 131072 tokens. However, you requested about"
        " 150400 tokens.",
        "",
        "earendil-works/pi: overflow.ts",
    ),
    Wording(
        "OpenRouter (Poolside)",
        "Input length 131393 exceeds the maximum allowed input length of 131040 tokens.",
        r"maximum (?:allowed )?(?:model|input) length",
        "earendil-works/pi#4943",
    ),
    Wording(
        "Ollama",
        "prompt too long; exceeded max context length by 4 tokens",
        "",
        "earendil-works/pi: overflow.ts",
    ),
    Wording(
        "Ollama (embeddings)",
        "the input length exceeds the context length",
        "",
        "Ollama's embedding endpoint, quoted in public logs",
    ),
    Wording(
        "vLLM",
        "This model's maximum context length is 262144 tokens. However, you requested 0 output"
        " tokens and your prompt contains at least 262145 input tokens, for a total of at least"
        " 262145 tokens. Please reduce the length of the input prompt or the number of requested"
        " output tokens.",
        "",
        "earendil-works/pi#5929",
    ),
    Wording(
        "vLLM",
        "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
        r"longer than the maximum model length",
        "vllm-project/vllm: the input processor's message, quoted in public logs",
    ),
    Wording(
        "SGLang",
        "Requested token count exceeds the model's maximum context length of 262144 tokens.",
        "",
        "openclaw/openclaw#129352",
    ),
    Wording(
        "TGI",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4534"
        " `inputs` tokens and 100 `max_new_tokens`",
        r"`inputs` (?:tokens \+ `max_new_tokens` must be|must have less than)",
        "BerriAI/litellm: exception_mapping_utils.py",
    ),
    Wording(
        "llama.cpp",
        "the request exceeds the available context size. try increasing the context size or enable"
        " context shift",
        r"exceeds? the (?:available )?context",
        "coddy-project/coddy-agent#106",
        "exceed_context_size_error",
    ),
    Wording(
        "LM Studio",
        "The number of tokens to keep from the initial prompt is greater than the context length.",
        "",
        "earendil-works/pi: overflow.ts",
    ),
    Wording(
        "Zhipu",
        "Prompt exceeds max length",
        r"prompt exceeds max length",
        "zeroclaw-labs/zeroclaw#4124",
        "1261",
    ),
    Wording(
        "Moonshot",
        "Invalid request: Your request exceeded model token limit: 262144 (requested: 300120)",
        r"exceed(?:ed|s)? model token limit",
        "earendil-works/pi: overflow.ts",
    ),
    Wording(
        "MiniMax",
        "invalid params, context window exceeds limit",
        "",
        "earendil-works/pi: overflow.ts",
    ),
    Wording(
        "Qwen (DashScope)",
        "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 204800]",
        r"range of input length should be",
        "QwenLM/qwen-code#98",
    ),
    Wording(
        "GitHub Copilot",
        "prompt token count of 125516 exceeds the limit of 64000",
        r"prompt token count of \d+ exceeds",
        "jjleng/copilot-more#35",
        "model_max_prompt_tokens_exceeded",
    ),
    Wording(
        "Databricks",
        "BAD_REQUEST: Input is too long for requested model.",
        "",
        "anomalyco/opencode#4698: Claude there is served by Bedrock",
    ),
    Wording(
        "watsonx",
        "the number of input tokens 9012 cannot exceed the total tokens limit 8192 for this model",
        r"number of input tokens \d+ cannot exceed",
        "agno-agi/agno: tests of its WatsonX model",
    ),
    Wording(
        "Salesforce",
        "Request input tokens exceed model token limit. Reduce the input size.",
        "",
        "forcedotcom/Einstein-GPT-for-Developers#228",
    ),
    Wording(
        "watsonx",
        "input token count is above the limit",
        r"token count is above the limit",
        "agno-agi/agno: tests of context errors",
        "token_quantity_exceeded",
    ),
)
"""A prompt that is longer than the model's context window."""

NOT_CONTEXT = (
    Wording(
        "OpenAI",
        "Too many tokens per minute. Please retry after 20 seconds.",
        r"tokens per (?:min|hour|day)",
        "code-yeongyu/senpi#1466",
    ),
    Wording(
        "Amazon Bedrock",
        "ThrottlingException: Too many tokens, please wait before trying again.",
        r"please wait before trying again",
        "earendil-works/pi: overflow.ts",
    ),
    Wording(
        "OpenAI",
        "Invalid 'user': string too long. Expected a string with maximum length 64, but got a"
        " string with length 65 instead.",
        r"invalid '(?!messages|input|prompt)",
        "BerriAI/litellm: exception_mapping_utils.py",
    ),
)
"""Similar messages with another meaning: rate limits, and limits of other fields."""

CONTENT = (
    Wording(
        "Azure OpenAI",
        "The response was filtered due to the prompt triggering Azure OpenAI's content management"
        " policy.",
        r"content (?:filter|management policy|policy)",
        "BerriAI/litellm: exception_mapping_utils.py",
        "ResponsibleAIPolicyViolation",
    ),
    Wording(
        "OpenAI",
        "Your request was rejected as a result of our safety system.",
        r"safety system",
        "BerriAI/litellm: exception_mapping_utils.py",
        "content_policy_violation",
    ),
    Wording(
        "OpenAI",
        "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
        r"flagged by our|flagged as potentially violating",
        "OpenAI's `invalid_prompt`, quoted in public logs",
    ),
    Wording(
        "Anthropic",
        "Output blocked by content filtering policy",
        r"content filtering policy",
        "BerriAI/litellm: exception_mapping_utils.py",
    ),
    Wording(
        "DeepSeek",
        "Content Exists Risk",
        r"content exists risk",
        "deepseek-ai/awesome-deepseek-integration#13",
    ),
    Wording(
        "Moonshot",
        "The request was rejected because it was considered high risk",
        r"considered high risk",
        "666ghj/BettaFish#228",
        "content_filter",
    ),
    Wording(
        "Qwen (DashScope)",
        "Input data may contain inappropriate content.",
        r"may contain inappropriate content",
        "DashScope's `data_inspection_failed`, quoted in public logs",
        "data_inspection_failed",
    ),
    Wording(
        "Zhipu",
        "系统检测到输入或生成内容可能包含不安全或敏感内容",
        r"可能包含不安全或敏感内容",
        "Zhipu error code 1301, quoted in public logs",
        "1301",
    ),
    Wording(
        "MiniMax",
        "input new_sensitive",
        r"(?:input|output) new_sensitive",
        "MiniMax error codes 1026 and 1027, quoted in public code",
    ),
    Wording(
        "xAI",
        "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_DATA_LEAKAGE",
        r"violates usage guidelines",
        "QuantumNous/new-api: violation_fee.go",
    ),
)
"""Content that the provider refuses to process or to generate."""

CODES = {
    "context_window_exceeded": ("model_context_window_exceeded",),
    "content_filtered": ("content_filter", "moderation_blocked", "DataInspectionFailed"),
}
"""Codes that belong to no row."""


def pattern_of(rows: tuple[Wording, ...]) -> re.Pattern[str]:
    """One pattern for all rows of a table."""
    return re.compile("|".join(row.pattern for row in rows if row.pattern), re.IGNORECASE)


def codes_of(kind: str, rows: tuple[Wording, ...]) -> dict[str, str]:
    """The codes that are sufficient by themselves, each with its kind."""
    return dict.fromkeys((*(row.code for row in rows if row.code), *CODES[kind]), kind)

"""The table of hosts: one row for each of LiteLLM's prefixes that our own adapters serve.

A row says which host a prefix means, which variables have that host's key, and how its API differs
from OpenAI's. `hosts` has the look-ups; LiteLLM serves prefixes without a row.

Sources: LiteLLM 1.106.2 for prefixes, addresses and variables (`get_llm_provider_logic.py`, each
provider's `transformation.py`, `openai_like/providers.json`); the provider's own reference for the
rest. A row's `source` is the page to check it against.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

Cap = Literal["max_tokens", "max_completion_tokens"]
MAX_TOKENS: Cap = "max_tokens"
MAX_COMPLETION: Cap = "max_completion_tokens"


@dataclass(frozen=True, slots=True)
class Host:
    """A provider, under the name that configurations use.

    Attributes:
        prefix: LiteLLM's prefix, as in `groq/llama-3.3-70b-versatile`.
        base: its address; None for self-hosted servers, which need an `api_base`.
        keys: variables that may have its key; the first one that is set wins. Such a key is sent
            only to this row's own hosts.
        source: the page to check the row against.
        provider: `gen_ai.provider.name`; empty if it equals the prefix.
        base_variables: variables that override `base`.
        names: further host names of the same company; a leading dot includes all subdomains.
        cap: the field that caps an answer, for callers that set none.
        keyless: it answers without a key, as self-hosted servers do.
        asks_usage: a stream reports usage if `stream_options` requests it; False if it always
            reports usage and refuses the field.
        suffix: what LiteLLM appends to an `api_base` that lacks it.
        model_prefix: the start of its model names, which configurations may omit.
        renames: fields that it calls by another name.
        drops: fields of OpenAI's wire that it refuses; omitted with `drop_params`.
        wire: the adapter that serves it.
    """

    prefix: str
    base: str | None
    keys: tuple[str, ...]
    source: str
    provider: str = ""
    base_variables: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    cap: Cap = MAX_TOKENS
    keyless: bool = False
    asks_usage: bool = True
    suffix: str = ""
    model_prefix: str = ""
    renames: Mapping[str, str] = field(default_factory=dict)
    drops: frozenset[str] = frozenset()
    wire: Literal["openai", "anthropic"] = "openai"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Host names that belong to it."""
        own = urlsplit(self.base).hostname if self.base else None
        return (own, *self.names) if own else self.names

    def owns(self, base: str) -> bool:
        """Whether an address is this provider's own, so that its key from the environment may be
        sent there: over TLS, or on this machine."""
        try:
            url = urlsplit(base)
            name = url.hostname or ""
        except ValueError:
            return False
        if url.scheme != "https" and name not in LOCAL:
            return False
        return any(
            name.endswith(known) if known.startswith(".") else name == known for known in self.hosts
        )


LOCAL = frozenset({"localhost", "127.0.0.1"})
PENALTIES = frozenset({"frequency_penalty", "presence_penalty"})
LOGPROBS = frozenset({"logit_bias", "logprobs", "top_logprobs"})
_OPENAI_ONLY = frozenset(
    {"prediction", "prompt_cache_key", "safety_identifier", "service_tier", "store", "verbosity"}
)

_OLLAMA = "https://docs.ollama.com/openai"
_LISTED = """
publicai https://api.publicai.co/v1 PUBLICAI_API_KEY PUBLICAI_API_BASE
helicone https://ai-gateway.helicone.ai HELICONE_API_KEY
veniceai https://api.venice.ai/api/v1 VENICE_AI_API_KEY
xiaomi_mimo https://api.xiaomimimo.com/v1 XIAOMI_MIMO_API_KEY
scaleway https://api.scaleway.ai/v1 SCW_SECRET_KEY
synthetic https://api.synthetic.new/openai/v1 SYNTHETIC_API_KEY
apertis https://api.stima.tech/v1 STIMA_API_KEY
nano-gpt https://nano-gpt.com/api/v1 NANOGPT_API_KEY
poe https://api.poe.com/v1 POE_API_KEY
chutes https://llm.chutes.ai/v1 CHUTES_API_KEY
llamagate https://api.llamagate.dev/v1 LLAMAGATE_API_KEY
gmi https://api.gmi-serving.com/v1 GMI_API_KEY
assemblyai https://llm-gateway.assemblyai.com/v1 ASSEMBLYAI_API_KEY
aihubmix https://aihubmix.com/v1 AIHUBMIX_API_KEY AIHUBMIX_API_BASE
libertai https://api.libertai.io/v1 LIBERTAI_API_KEY LIBERTAI_API_BASE
meta https://api.meta.ai/v1 META_API_KEY META_API_BASE
cortecs https://api.cortecs.ai/v1 CORTECS_API_KEY CORTECS_API_BASE
tencent https://tokenhub-intl.tencentcloudmaas.com/v1 TENCENT_API_KEY TENCENT_API_BASE
aiml https://api.aimlapi.com/v1 AIML_API_KEY AIML_API_BASE
reka https://api.reka.ai/v1 REKA_API_KEY REKA_API_BASE
"""
"""Prefix, address, key variable and address variable, as LiteLLM lists them."""


def _listed() -> Iterator[Host]:
    for line in _LISTED.split("\n")[1:-1]:
        prefix, base, key, *variables = line.split()
        source = "LiteLLM openai_like/providers.json, get_llm_provider_logic.py"
        yield Host(prefix, base, (key,), source, base_variables=tuple(variables))


def _own(
    prefix: str,
    base: str | None,
    variable: str,
    source: str,
    suffix: str = "",
    names: tuple[str, ...] = (),
) -> Host:
    """A self-hosted server."""
    return Host(
        prefix,
        base,
        (f"{variable}_API_KEY",),
        source,
        base_variables=(f"{variable}_API_BASE",),
        names=names,
        keyless=True,
        suffix=suffix,
    )


HOSTS: dict[str, Host] = {
    host.prefix: host
    for host in (
        Host(
            "openai",
            "https://api.openai.com/v1",
            ("OPENAI_API_KEY",),
            "https://platform.openai.com/docs/api-reference",
            base_variables=("OPENAI_API_BASE",),
            names=("eu.api.openai.com", "us.api.openai.com"),
            cap=MAX_COMPLETION,
        ),
        Host(
            "anthropic",
            "https://api.anthropic.com",
            ("ANTHROPIC_API_KEY",),
            "https://docs.anthropic.com/en/api/messages",
            base_variables=("ANTHROPIC_API_BASE",),
            wire="anthropic",
        ),
        Host(
            "openrouter",
            "https://openrouter.ai/api/v1",
            ("OPENROUTER_API_KEY", "OR_API_KEY"),
            "https://openrouter.ai/docs/api/reference/overview",
            base_variables=("OPENROUTER_API_BASE",),
        ),
        Host(
            "groq",
            "https://api.groq.com/openai/v1",
            ("GROQ_API_KEY",),
            "https://console.groq.com/docs/openai",
            base_variables=("GROQ_API_BASE",),
            cap=MAX_COMPLETION,
            drops=LOGPROBS | {"prediction", "safety_identifier", "store", "verbosity"},
        ),
        Host(
            "deepseek",
            "https://api.deepseek.com",
            ("DEEPSEEK_API_KEY",),
            "https://api-docs.deepseek.com",
            base_variables=("DEEPSEEK_API_BASE",),
            drops=_OPENAI_ONLY | {"n", "seed", "parallel_tool_calls"},
        ),
        Host(
            "mistral",
            "https://api.mistral.ai/v1",
            ("MISTRAL_API_KEY",),
            "https://docs.mistral.ai/api and mistralai/platform-docs-public#7",
            provider="mistral_ai",
            names=("codestral.mistral.ai",),
            asks_usage=False,
            suffix="/v1",
            renames={"max_completion_tokens": "max_tokens", "seed": "random_seed"},
            drops=LOGPROBS | _OPENAI_ONLY | {"user"},
        ),
        Host(
            "xai",
            "https://api.x.ai/v1",
            ("XAI_API_KEY",),
            "https://docs.x.ai/docs/api-reference",
            provider="x_ai",
            base_variables=("XAI_API_BASE",),
            drops=frozenset({"logit_bias", "prediction", "store", "verbosity"}),
        ),
        Host(
            "together_ai",
            "https://api.together.ai/v1",
            (
                "TOGETHER_API_KEY",
                "TOGETHER_AI_API_KEY",
                "TOGETHERAI_API_KEY",
                "TOGETHER_AI_TOKEN",
            ),
            "https://docs.together.ai/docs/openai-api-compatibility",
            base_variables=("TOGETHER_AI_API_BASE",),
            names=("api.together.xyz",),
            drops=_OPENAI_ONLY,
        ),
        Host(
            "fireworks_ai",
            "https://api.fireworks.ai/inference/v1",
            (
                "FIREWORKS_API_KEY",
                "FIREWORKS_AI_API_KEY",
                "FIREWORKSAI_API_KEY",
                "FIREWORKS_AI_TOKEN",
            ),
            "https://docs.fireworks.ai/tools-sdks/openai-compatibility",
            base_variables=("FIREWORKS_API_BASE",),
            model_prefix="accounts/fireworks/models/",
            drops=_OPENAI_ONLY,
        ),
        Host(
            "perplexity",
            "https://api.perplexity.ai",
            ("PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"),
            "https://docs.perplexity.ai/api-reference/chat-completions-post",
            base_variables=("PERPLEXITY_API_BASE",),
            drops=LOGPROBS | _OPENAI_ONLY | {"n", "seed", "stop", "tools", "tool_choice"},
        ),
        Host(
            "cerebras",
            "https://api.cerebras.ai/v1",
            ("CEREBRAS_API_KEY",),
            "https://inference-docs.cerebras.ai/resources/openai",
            base_variables=("CEREBRAS_API_BASE",),
            cap=MAX_COMPLETION,
            drops=PENALTIES | {"logit_bias", "n", "store"},
        ),
        Host(
            "nvidia_nim",
            "https://integrate.api.nvidia.com/v1",
            ("NVIDIA_NIM_API_KEY",),
            "https://docs.api.nvidia.com/nim/reference/llm-apis",
            base_variables=("NVIDIA_NIM_API_BASE",),
            renames={"max_completion_tokens": "max_tokens"},
            drops=_OPENAI_ONLY,
        ),
        Host(
            "moonshot",
            "https://api.moonshot.ai/v1",
            ("MOONSHOT_API_KEY",),
            "https://platform.moonshot.ai/docs/api/chat",
            base_variables=("MOONSHOT_API_BASE",),
            names=("api.moonshot.cn",),
            drops=_OPENAI_ONLY,
        ),
        Host(
            "dashscope",
            "https://dashscope.aliyuncs.com/compatible-mode/v1",
            ("DASHSCOPE_API_KEY",),
            "https://help.aliyun.com/zh/model-studio/compatibility-of-openai-with-dashscope",
            base_variables=("DASHSCOPE_API_BASE",),
            names=("dashscope-intl.aliyuncs.com", "dashscope-us.aliyuncs.com"),
            drops=_OPENAI_ONLY,
        ),
        Host(
            "zai",
            "https://api.z.ai/api/paas/v4",
            ("ZAI_API_KEY",),
            "https://docs.z.ai/api-reference/llm/chat-completion",
            base_variables=("ZAI_API_BASE",),
            names=("open.bigmodel.cn",),
            drops=LOGPROBS | PENALTIES | _OPENAI_ONLY | {"n", "seed"},
        ),
        Host(
            "gemini",
            "https://generativelanguage.googleapis.com/v1beta/openai",
            ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
            "https://ai.google.dev/gemini-api/docs/openai",
            provider="gcp.gemini",
            drops=LOGPROBS | _OPENAI_ONLY | {"parallel_tool_calls", "user"},
        ),
        Host(
            "deepinfra",
            "https://api.deepinfra.com/v1/openai",
            ("DEEPINFRA_API_KEY",),
            "https://deepinfra.com/docs/openai_api",
            base_variables=("DEEPINFRA_API_BASE",),
            renames={"max_completion_tokens": "max_tokens"},
            drops=_OPENAI_ONLY,
        ),
        Host(
            "sambanova",
            "https://api.sambanova.ai/v1",
            ("SAMBANOVA_API_KEY",),
            "https://docs.sambanova.ai/cloud/docs/capabilities/openai-compatibility",
            base_variables=("SAMBANOVA_API_BASE",),
            renames={"max_completion_tokens": "max_tokens"},
            drops=LOGPROBS | PENALTIES | _OPENAI_ONLY | {"n", "seed"},
        ),
        Host(
            "hyperbolic",
            "https://api.hyperbolic.xyz/v1",
            ("HYPERBOLIC_API_KEY",),
            "https://docs.hyperbolic.xyz/docs/rest-api",
            base_variables=("HYPERBOLIC_API_BASE",),
        ),
        Host(
            "novita",
            "https://api.novita.ai/v3/openai",
            ("NOVITA_API_KEY",),
            "https://novita.ai/docs/guides/llm-api",
            base_variables=("NOVITA_API_BASE",),
        ),
        Host(
            "nebius",
            "https://api.studio.nebius.ai/v1",
            ("NEBIUS_API_KEY",),
            "https://docs.nebius.com/studio/inference/api",
            base_variables=("NEBIUS_API_BASE",),
            names=("api.studio.nebius.com", "api.tokenfactory.nebius.com"),
            renames={"max_completion_tokens": "max_tokens"},
        ),
        Host(
            "lambda_ai",
            "https://api.lambda.ai/v1",
            ("LAMBDA_API_KEY",),
            "https://docs.lambda.ai/public-cloud/lambda-inference-api",
            base_variables=("LAMBDA_API_BASE",),
        ),
        Host(
            "featherless_ai",
            "https://api.featherless.ai/v1",
            ("FEATHERLESS_AI_API_KEY", "FEATHERLESS_API_KEY"),
            "https://featherless.ai/docs/completions",
            base_variables=("FEATHERLESS_AI_API_BASE", "FEATHERLESS_API_BASE"),
            renames={"max_completion_tokens": "max_tokens"},
        ),
        Host(
            "nscale",
            "https://inference.api.nscale.com/v1",
            ("NSCALE_API_KEY",),
            "https://docs.nscale.com/docs/inference/chat",
            base_variables=("NSCALE_API_BASE",),
        ),
        Host(
            "inception",
            "https://api.inceptionlabs.ai/v1",
            ("INCEPTION_API_KEY",),
            "https://docs.inceptionlabs.ai",
            base_variables=("INCEPTION_API_BASE",),
        ),
        Host(
            "morph",
            "https://api.morphllm.com/v1",
            ("MORPH_API_KEY",),
            "https://docs.morphllm.com",
            base_variables=("MORPH_API_BASE",),
        ),
        Host(
            "v0",
            "https://api.v0.dev/v1",
            ("V0_API_KEY",),
            "https://v0.dev/docs/v0-model-api",
            base_variables=("V0_API_BASE",),
        ),
        Host(
            "vercel_ai_gateway",
            "https://ai-gateway.vercel.sh/v1",
            ("VERCEL_AI_GATEWAY_API_KEY", "VERCEL_OIDC_TOKEN"),
            "https://vercel.com/docs/ai-gateway",
            base_variables=("VERCEL_AI_GATEWAY_API_BASE",),
        ),
        Host(
            "modelscope",
            "https://api-inference.modelscope.cn/v1",
            ("MODELSCOPE_API_KEY",),
            "https://modelscope.cn/docs/model-service/API-Inference/intro",
            base_variables=("MODELSCOPE_API_BASE",),
        ),
        Host(
            "wandb",
            "https://api.inference.wandb.ai/v1",
            ("WANDB_API_KEY",),
            "https://docs.wandb.ai/guides/inference",
            base_variables=("WANDB_API_BASE",),
        ),
        Host(
            "friendliai",
            "https://api.friendli.ai/serverless/v1",
            ("FRIENDLIAI_API_KEY", "FRIENDLI_TOKEN"),
            "https://friendli.ai/docs/openapi/serverless",
            base_variables=("FRIENDLI_API_BASE",),
        ),
        Host(
            "volcengine",
            "https://ark.cn-beijing.volces.com/api/v3",
            ("VOLCENGINE_API_KEY",),
            "https://www.volcengine.com/docs/82379/1494384",
            base_variables=("VOLCENGINE_API_BASE",),
        ),
        Host(
            "meta_llama",
            "https://api.llama.com/compat/v1",
            ("LLAMA_API_KEY",),
            "https://llama.developer.meta.com/docs/features/compatibility",
            base_variables=("LLAMA_API_BASE",),
        ),
        Host(
            "minimax",
            "https://api.minimax.io/v1",
            ("MINIMAX_API_KEY",),
            "https://platform.minimax.io/docs/api-reference/text-openai-api",
            base_variables=("MINIMAX_API_BASE",),
            names=("api.minimaxi.com",),
        ),
        Host(
            "github",
            "https://models.inference.ai.azure.com",
            ("GITHUB_API_KEY",),
            "https://docs.github.com/en/github-models",
            base_variables=("GITHUB_API_BASE",),
            names=("models.github.ai",),
        ),
        *_listed(),
        # Self-hosted servers. Their key is optional, and one from the environment is sent only to
        # the address that the environment gives.
        _own("ollama", "http://localhost:11434/v1", "OLLAMA", _OLLAMA, "/v1", ("ollama.com",)),
        _own("ollama_chat", "http://localhost:11434/v1", "OLLAMA", _OLLAMA, "/v1", ("ollama.com",)),
        _own("lm_studio", None, "LM_STUDIO", "https://lmstudio.ai/docs/app/api/endpoints/openai"),
        _own("hosted_vllm", None, "HOSTED_VLLM", "https://docs.vllm.ai/en/latest/serving"),
        _own("llamafile", "http://127.0.0.1:8080/v1", "LLAMAFILE", "Mozilla-Ocho/llamafile"),
        _own(
            "docker_model_runner",
            "http://localhost:22088/engines/llama.cpp/v1",
            "DOCKER_MODEL_RUNNER",
            "https://docs.docker.com/ai/model-runner/api-reference",
            "/v1",
        ),
        _own(
            "xinference",
            "http://127.0.0.1:9997/v1",
            "XINFERENCE",
            "https://inference.readthedocs.io",
        ),
        _own("openai_like", None, "OPENAI_LIKE", "LiteLLM llms/openai_like"),
        _own("custom_openai", None, "OPENAI_LIKE", "LiteLLM llms/openai_like"),
        _own("aiohttp_openai", None, "OPENAI_LIKE", "LiteLLM llms/aiohttp_openai"),
        _own("litellm_proxy", None, "LITELLM_PROXY", "LiteLLM llms/litellm_proxy"),
        Host(
            "databricks",
            None,
            ("DATABRICKS_API_KEY",),
            "https://docs.databricks.com/aws/en/machine-learning/model-serving/query-chat-models",
            base_variables=("DATABRICKS_API_BASE",),
            names=(".cloud.databricks.com", ".azuredatabricks.net", ".gcp.databricks.com"),
            suffix="/serving-endpoints",
        ),
        # `providers/azure.py` builds their addresses.
        Host(
            "azure",
            None,
            ("AZURE_OPENAI_API_KEY", "AZURE_API_KEY"),
            "https://learn.microsoft.com/azure/ai-foundry/openai/reference",
            provider="azure.ai.openai",
            base_variables=("AZURE_API_BASE",),
            names=(".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com"),
        ),
        Host(
            "azure_ai",
            None,
            ("AZURE_AI_API_KEY",),
            "https://learn.microsoft.com/azure/ai-foundry/model-inference/reference",
            provider="azure.ai.inference",
            base_variables=("AZURE_AI_API_BASE",),
            names=(".services.ai.azure.com", ".models.ai.azure.com", ".inference.ai.azure.com"),
        ),
    )
}
"""By LiteLLM's prefix."""

"""An application as its users write it: traceloop-sdk and openai, and nothing of ours.

Arguments: where OTLP goes, the provider's base URL, the gateway's base URL, the gateway's key.
"""

from __future__ import annotations

import contextlib
import sys

import openai
from traceloop.sdk import Traceloop
from traceloop.sdk.decorators import workflow
from traceloop.sdk.instruments import Instruments


@workflow(name="answer")
def answer(provider: openai.OpenAI, gateway: openai.OpenAI) -> None:
    """Ask the provider and the gateway, in all the ways that make a difference."""
    question = "Mail jane.doe@example.com, her key is sk-proj-AAAABBBBCCCCDDDDEEEE."
    for client, prefix in ((provider, "openai/"), (gateway, "")):
        for model in ("gpt-4o-mini", f"{prefix}gpt-4o-mini"):
            client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": question}], temperature=0.3
            )
            with client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": question}],
                stream=True,
                stream_options={"include_usage": True},
            ) as stream:
                for _ in stream:
                    pass
        with contextlib.suppress(openai.APIStatusError):
            client.chat.completions.create(
                model="gpt-4o-mini!401", messages=[{"role": "user", "content": question}]
            )


def main() -> None:
    """Set up as the documentation of OpenLLMetry says, run, and send what there is."""
    otlp, provider, gateway, key = sys.argv[1:5]
    Traceloop.init(
        app_name="plain-app",
        api_endpoint=otlp,
        instruments={Instruments.OPENAI},
        disable_batch=True,
    )
    answer(
        openai.OpenAI(base_url=provider, api_key="sk-sim-0123456789abcdef", max_retries=0),
        openai.OpenAI(base_url=gateway, api_key=key, max_retries=0),
    )


if __name__ == "__main__":
    main()

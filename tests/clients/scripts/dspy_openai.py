"""DSPy, which calls models through LiteLLM."""

from __future__ import annotations

from typing import Any

from said import HELLO, run

# setup
import dspy


def lm(model: str) -> dspy.LM:
    """A model of DSPy."""
    return dspy.LM(f"openai/{model}", cache=False)


# end


def whole(model: str) -> dict[str, Any]:
    (text,) = lm(model)(HELLO)
    return {"text": text}


def structured(model: str) -> dict[str, Any]:
    with dspy.context(lm=lm(model), adapter=dspy.JSONAdapter()):
        return {"data": {"answer": dspy.Predict("question -> answer")(question=HELLO).answer}}


run(whole=whole, structured=structured)

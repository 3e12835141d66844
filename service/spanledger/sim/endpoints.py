"""The provider's endpoints that are not a dialogue, from the request to the entry on the bill."""

from __future__ import annotations

import math
from functools import partial

import msgspec

from spanledger.sim.bill import Usage
from spanledger.sim.call import Call
from spanledger.sim.prompt import Prompt, RefusalError, digest_of, model_of
from spanledger.sim.tokens import tokens
from spanledger.sim.writer import draw_pace

_NOT_CONTENT = frozenset({"user", "metadata"})
_CATEGORIES = ("harassment", "hate", "illicit", "self-harm", "sexual", "violence")


class OtherCall(Call):
    """One request to such an endpoint."""

    async def completions(self) -> None:
        """Serve a legacy completion."""
        self.operation = "completions"
        await self._run(self._chat)

    async def moderations(self) -> None:
        """Serve moderations, which are free."""
        self.operation = "moderations"
        await self._run(self._moderations)

    async def _moderations(self, body: dict[str, object]) -> None:
        model, script = model_of({"model": "omni-moderation-latest", **body})
        if "moderation" not in model:
            raise RefusalError(400, f"Invalid value for 'model' = {model}.", param="model")
        texts = _moderated(body)
        digest = digest_of("moderations", model, body, _NOT_CONTENT)
        count = sum(map(tokens, texts))
        self._begin(Prompt("openai", model, digest, (), count, script=script), body)
        if await self._fail_early():
            return
        self.seen.answers += 1
        dice = self._dice(b"answer", self.seen.answers)
        due_s = draw_pace(model, dice.rng).first_s / 4
        answer_id = dice.name("modr-")
        body_of = partial(_moderation, answer_id, model, texts)
        await self._plain(answer_id, due_s, Usage(count), body_of)


def _moderated(body: dict[str, object]) -> list[str]:
    """The texts to judge; an image counts as one without words. Raises RefusalError."""
    given = body.get("input")
    items = given if isinstance(given, list) else [given]
    if not items or not all(isinstance(item, str | dict) for item in items):
        raise RefusalError(400, "'input' must be text, or a list of texts or parts.", param="input")
    if all(isinstance(item, dict) for item in items):
        for item in items:
            if not isinstance(item, dict) or item.get("type") not in ("text", "image_url"):
                raise RefusalError(400, "Invalid value: 'input[].type'.", param="input")
        return ["".join(str(item.get("text", "")) for item in items if isinstance(item, dict))]
    return [item for item in items if isinstance(item, str)]


def _moderation(answer_id: str, model: str, texts: list[str], usage: Usage | None) -> bytes:
    """Moderations do not report usage."""
    del usage
    rows = []
    for text in texts:
        found = {name: name in text.lower() for name in _CATEGORIES}
        scores = {name: math.exp(-1.0 if found[name] else -12.0) for name in _CATEGORIES}
        row = {"flagged": any(found.values()), "categories": found, "category_scores": scores}
        rows.append(row)
    return msgspec.json.encode({"id": answer_id, "model": model, "results": rows})

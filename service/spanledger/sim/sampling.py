"""Random values that fit a JSON schema, from a seeded generator.

A schema from a request is walked to a limited depth and size.
"""

from __future__ import annotations

import random

from spanledger.sim.prompt import string

DEPTH_MAX = 12
NODES_MAX = 2_000
ITEMS_MAX = 8
STRING_CHARACTERS_MAX = 2_000

_WORDS = """
account after again agent amount answer around asked balance because before between both bring
budget call carry change check clear close common cost count customer daily data days deliver
detail direct each early easy enough every example expect fact figure final find first follow form
found from give good group hand have help hold hour idea into item keep kind know large last later
learn less letter level light line list little long look made main make many market mean measure
meet message might model month more most move much name near need next note number often once only
open order other over page paid part past people period place plain plan point price provider
public quarter question quick rate reach read reason record region report request result return
review right room round rule same season second send service set several share short show side
simple since size small some soon sort source space stand start state step still store study such
table take team tell term than that then there these they thing this those time today token total
trace true turn under unit until usage value very view want week well were what when where which
while whole will with without word work would write year
"""
WORDS = tuple(_WORDS.split())


def sample(schema: object, rng: random.Random) -> object:
    """A value that fits the schema's common keywords."""
    return _Sampler(rng, schema).draw(schema, 0)


class _Sampler:
    def __init__(self, rng: random.Random, root: object) -> None:
        self.rng = rng
        self.root = root
        self.nodes = 0

    def draw(self, schema: object, depth: int) -> object:
        self.nodes += 1
        if not isinstance(schema, dict) or depth > DEPTH_MAX or self.nodes > NODES_MAX:
            return None
        if "$ref" in schema:
            return self.draw(self._resolve(string(schema["$ref"])), depth + 1)
        if "const" in schema:
            return schema["const"]
        choices = schema.get("enum")
        if isinstance(choices, list) and choices:
            return self.rng.choice(choices)
        for name in ("anyOf", "oneOf", "allOf"):
            options = schema.get(name)
            if isinstance(options, list) and options:
                return self.draw(options[0], depth + 1)
        kind = schema.get("type")
        if isinstance(kind, list) and kind:
            kind = kind[0]
        if kind == "object" or (kind is None and "properties" in schema):
            return self._object(schema, depth)
        if kind == "array":
            low = min(_int(schema, "minItems", 1), ITEMS_MAX)
            count = self.rng.randint(low, max(low, min(_int(schema, "maxItems", 3), 3)))
            return [self.draw(schema.get("items"), depth + 1) for _ in range(count)]
        return self._scalar(kind, schema)

    def _object(self, schema: dict[str, object], depth: int) -> dict[str, object]:
        properties = schema.get("properties")
        if not isinstance(properties, dict):
            return {}
        return {str(name): self.draw(value, depth + 1) for name, value in properties.items()}

    def _scalar(self, kind: object, schema: dict[str, object]) -> object:
        low = _int(schema, "minimum", 0)
        high = max(low, _int(schema, "maximum", low + 100))
        if kind == "integer":
            return self.rng.randint(low, high)
        if kind == "number":
            return min(self.rng.randint(low * 4, high * 4) / 4, high)
        if kind == "boolean":
            return self.rng.random() < 0.5
        if kind == "string":
            return self._string(schema)
        return None

    def _string(self, schema: dict[str, object]) -> str:
        formats = {
            "date": f"2026-{self.rng.randint(1, 12):02}-{self.rng.randint(1, 28):02}",
            "date-time": f"2026-06-{self.rng.randint(1, 28):02}T12:00:00Z",
            "email": f"{self.rng.choice(WORDS)}@example.com",
            "uuid": f"{self.rng.getrandbits(32):08x}-0000-4000-8000-000000000000",
            "uri": f"https://example.com/{self.rng.choice(WORDS)}",
        }
        if found := formats.get(string(schema.get("format"))):
            return found
        text = " ".join(self.rng.choices(WORDS, k=2))
        shortest = min(_int(schema, "minLength", 0), STRING_CHARACTERS_MAX)
        longest = min(_int(schema, "maxLength", 60), STRING_CHARACTERS_MAX)
        return text.ljust(shortest, "x")[: max(longest, shortest)]

    def _resolve(self, reference: str) -> object:
        found = self.root
        for part in reference.removeprefix("#").strip("/").split("/"):
            if part:
                found = found.get(part) if isinstance(found, dict) else None
        return found


def _int(schema: dict[str, object], name: str, default: int) -> int:
    value = schema.get(name)
    return int(value) if isinstance(value, int | float) and abs(value) < 10**12 else default

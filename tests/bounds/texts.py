"""Random texts, schemas and files that are hard to bound, and random ways to write them as JSON."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

_SCRIPTS = (
    "abcdefghijklmnopqrstuvwxyz      ",
    "0123456789.,-%$",
    '{}[]()<>"\\/\n\t:;=',
    "äöüßéñçøåœ",
    "абвгдежзийклмнопрстуфхцчшщ ",
    "αβγδεζηθικλμνξοπρστυφχψω ",
    "אבגדהוזחטיכלמנסעפצקרשת",
    "ابتثجحخدذرزسشصضطظعغفقكلمنهوي ",
    "अआइईउऊऋएऐओऔकखगघङचछजझञ्ािी",
    "กขฃคฅฆงจฉชซฌญฎฏฐฑฒณดตถทธนบปผฝพฟภมยรลวศษสหฬอฮะาิีึืุูเแโใไ",
    "ကခဂဃငစဆဇဈဉညဋဌဍဎဏတထဒဓနပဖဗဘမယရလဝသဟဠအ",
    "漢字仮名交文言語模型費用上限",
    "ひらがなカタカナ、。",
    "한국어문장토큰비용한도",
    "ሀለሐመሠረሰሸቀበተቸኀነኘአከኸወዐዘዠየደጀገጠጨጰጸፀፈፐ",
    "😀👩‍👩‍👧‍👦🏳️‍🌈🇩🇪🫠👍🏿",
    "𝔄𝔅ℭ𝔇𝕬𝖇𝖈𝒜𝓑𐍈𒀀𓀀𝄞",
    "a\u0301\u0323\u0308\u0489e\u0302\u035f",
    "\u200b\u200c\u200d\u2060\ufeff\u00ad",
    "\u0001\u0002\u0007\u001b\u007f",
)
"""Alphabets, from a token for five letters to several tokens for one."""
_PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(24)).decode()


class Texts:
    """A source of random texts from one seed."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.shared = [self.text(8_000, 2_000) for _ in range(6)]
        """Beginnings that many requests share, so that caches are read and written."""

    def chance(self, share: float) -> bool:
        """True in this share of all cases."""
        return self.dice.random() < share

    def text(self, most: int = 3_000, least: int = 1) -> str:
        """A text of one script or of several; its length is as often short as it is long."""
        dice, found = self.dice, ""
        size = round(least * (most / least) ** dice.random())
        for _ in range(1 if self.chance(0.7) else 4):
            alphabet = dice.choice(_SCRIPTS)
            piece = "".join(dice.choices(alphabet, k=min(size, 400)))
            found += piece * (size // (4 * len(piece)) + 1)
        return "a" + found[:size]

    def long(self, most: int) -> str:
        """A text that reaches the steps of prices and the ends of windows."""
        piece = self.text(400, 200)
        size = self.dice.randrange(most // 2, most)
        return piece * (size // len(piece.encode()) + 1)

    def name(self) -> str:
        """The name of a tool."""
        return "".join(self.dice.choices("abcdef_XYZ0123456789-", k=self.dice.choice([1, 9, 60])))

    def schema(self, depth: int = 3) -> dict[str, Any]:
        """A JSON schema of an object, of all sizes."""
        dice = self.dice
        properties: dict[str, Any] = {}
        for index in range(dice.choice([0, 1, 1, 3, 8])):
            kind = dice.choice(["string", "integer", "enum", "array", "object", "number"])
            name = f"p{index}" if self.chance(0.8) else self.text(20)
            if kind == "enum":
                value: dict[str, Any] = {
                    "enum": [self.text(20) for _ in range(dice.randrange(1, 9))]
                }
            elif kind == "array":
                value = {"type": "array", "items": {"type": "string"}, "maxItems": 2}
            elif kind == "object" and depth:
                value = self.schema(depth - 1)
            elif kind == "number":
                value = {"type": "number", "maximum": dice.choice([1, 0.5, 1e9])}
            else:
                value = {"type": "integer" if kind == "integer" else "string"}
            if self.chance(0.3):
                value["description"] = self.text(300)
            properties[name] = value
        found: dict[str, Any] = {"type": "object", "properties": properties}
        if self.chance(0.5):
            found |= {"required": list(properties), "additionalProperties": False}
        return found

    def names(self) -> list[str]:
        """The names of a request's tools, each once: a few, or very many."""
        dice = self.dice
        if self.chance(0.06):
            return [f"t{number}" for number in range(dice.choice([40, 90]))]
        return sorted({self.name() for _ in range(dice.choice([1, 1, 2, 5]))})

    def tiny_or_any_schema(self, many: bool) -> dict[str, Any]:
        """A schema for one of many tools is as small as it can be."""
        return {"type": "object"} if many else self.schema()

    def picture(self) -> str:
        """An image by its address or its data."""
        if self.chance(0.5):
            return f"https://example.com/{self.dice.randrange(10**6)}.png"
        return "data:image/png;base64," + _PIXEL + "A" * 4 * self.dice.choice([0, 30, 5_000])

    def pixels(self) -> str:
        """An image's data alone."""
        return _PIXEL + "A" * 4 * self.dice.choice([0, 30, 5_000])

    def document(self) -> str:
        """A PDF's data."""
        data = b"%PDF-1.7 " + self.dice.randbytes(self.dice.choice([1, 200, 9_000]))
        return base64.b64encode(data).decode()

    def written(self, body: dict[str, Any]) -> bytes:
        """A body as some client writes it: compact or spaced, with escapes or without."""
        spaced = self.chance(0.3)
        separators = (", ", ": ") if spaced else (",", ":")
        text = json.dumps(body, ensure_ascii=self.chance(0.4), separators=separators)
        return text.encode()

"""Random requests on Google's wire, at models that speak it and at all others."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from tests.bounds.dialogue import LONG_BYTES, MODELS, Body, Dialogue

FLASH, LITE = "gemini-2.5-flash", "gemini-2.5-flash-lite"
_OWN = (FLASH, LITE)
_HOSTED = ("googleSearch", "codeExecution", "urlContext")
_THINKING = ({"thinkingBudget": 0}, {"thinkingBudget": 2_048}, {"thinkingLevel": "low"})


def path_of(body: Body) -> str:
    """Where a request goes, by the fields that are part of its path and leave it."""
    verb = "streamGenerateContent?alt=sse" if body.pop("stream", False) else "generateContent"
    return f"/v1beta/models/{quote(body.pop('model'))}:{verb}"


class GenerateContent(Dialogue):
    """`generateContent`; the model and the verb, which go into the path, are among the fields."""

    path = "/v1beta/models/{model}:generateContent"

    def model(self) -> str:
        """Who is asked."""
        return self.dice.choice(_OWN if self.chance(0.4) else MODELS)

    def prompt(self, model: str) -> str:
        """A text; now and then one that is longer than anybody expects."""
        if model in _OWN and self.chance(0.03):
            return self.texts.long(LONG_BYTES)
        return super().prompt(model)

    def body(self) -> Body:
        """A request."""
        model, dice = self.model(), self.dice
        body: Body = {"model": model, "contents": self._contents(model)}
        if self.chance(0.4):
            body["stream"] = True
        if self.chance(0.4):
            name = dice.choice(["systemInstruction", "system_instruction"])
            body[name] = {"parts": [{"text": self.prompt(model)}]}
        config = self._config(model)
        if self.chance(0.3) and not any("functionCall" in str(c) for c in body["contents"]):
            body |= self._tools()
        elif self.chance(0.15):
            schema = self.texts.schema()
            config |= {"responseMimeType": "application/json", "responseJsonSchema": schema}
        if config:
            body["generationConfig"] = config
        if self.chance(0.1):
            body["safetySettings"] = [
                {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}
            ]
        if self.chance(0.02):
            body |= dice.choice([{"cachedContent": "cachedContents/x"}, {"serviceTier": "flex"}])
        return body

    def _config(self, model: str) -> Body:
        config: Body = {}
        if self.chance(0.6):
            config["maxOutputTokens"] = self.cap()
        if self.chance(0.1):
            config["temperature"] = 1
        if self.chance(0.1) and model in _OWN:
            config["candidateCount"] = self.dice.choice([1, 2, 3])
        if self.chance(0.1) and model in _OWN:
            config["stopSequences"] = self.dice.choice([["e"], ["qu", "zz"]])
        if self.chance(0.2):
            config["thinkingConfig"] = self.dice.choice(_THINKING)
        return config

    def _contents(self, model: str) -> list[Body]:
        found: list[Body] = []
        for _ in range(self.dice.choice([0, 0, 1, 3])):
            found.append({"role": "user", "parts": [{"text": self.texts.text()}]})
            found.append({"role": "model", "parts": [{"text": self.texts.text()}]})
        parts: list[Body] = [{"text": self.prompt(model)}]
        parts += [self._picture() for _ in range(self.dice.choice([0, 0, 1, 2]))]
        if self.chance(0.1):
            blob = {"mimeType": "application/pdf", "data": self.texts.document()}
            parts.append({"inlineData": blob})
        if self.chance(0.05) and model in _OWN:
            audio = {"mimeType": "audio/wav", "data": self.texts.document()}
            parts.append({self.dice.choice(["inlineData", "inline_data"]): audio})
        found.append({"role": "user", "parts": parts})
        if self.chance(0.15):
            call: Body = {"name": "f", "args": {"q": self.texts.text()}}
            result: Body = {"name": "f", "response": {"result": self.texts.text()}}
            if self.chance(0.5):
                call, result = {**call, "id": "c1"}, {**result, "id": "c1"}
            found.append({"role": "model", "parts": [{"functionCall": call}]})
            found.append({"role": "user", "parts": [{"functionResponse": result}]})
        return found

    def _picture(self) -> Body:
        if self.chance(0.3):
            uri = f"https://example.com/{self.texts.name()}.png"
            return {"fileData": {"mimeType": "image/png", "fileUri": uri}}
        return {"inlineData": {"mimeType": "image/png", "data": self.texts.pixels()}}

    def _tools(self) -> Body:
        names = self.texts.names()
        many = len(names) > 9
        declared: list[Body] = []
        for name in names:
            one: Body = {"name": f"f{name}"[:64]}
            one["parametersJsonSchema"] = self.texts.tiny_or_any_schema(many)
            if not many:
                one["description"] = self.texts.text(500)
            declared.append(one)
        tools: list[Any] = [{"functionDeclarations": declared}]
        if self.chance(0.1):
            tools.append({self.dice.choice(_HOSTED): {}})
        body: Body = {"tools": tools}
        if self.chance(0.4):
            calling: Body = {"mode": self.dice.choice(["AUTO", "ANY", "NONE"])}
            if calling["mode"] == "ANY" and self.chance(0.5):
                calling["allowedFunctionNames"] = [declared[0]["name"]]
            body["toolConfig"] = {"functionCallingConfig": calling}
        return body

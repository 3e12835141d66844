"""Random requests for a dialogue, in the three wires that have one."""

from __future__ import annotations

from typing import Any

from tests.bounds.texts import Texts

Body = dict[str, Any]
LONG_BYTES = 1_300_000
MINI, FULL, MILLION, THINKER = "gpt-4o-mini", "gpt-4o", "gpt-4.1-mini", "gpt-5-mini"
CODEX, PRO, TERRA, CHAT_ONLY = "gpt-5-codex", "gpt-5.4-pro", "gpt-5.6-terra", "chat-only"
HAIKU, SONNET = "claude-haiku-4-5", "claude-sonnet-4-5"
MODELS = (MINI, FULL, MILLION, THINKER, CODEX, PRO, TERRA, CHAT_ONLY, HAIKU, SONNET)
"""What callers of any dialogue are served by, whatever it speaks."""
_LONG = (MILLION, PRO, TERRA)
_REASON = (THINKER, CODEX, PRO, TERRA)
_ALONE = (CODEX, PRO)
_TIERS = ("auto", "default", "flex", "priority", "fast")
_EFFORTS = ("minimal", "low", "medium", "high", "none")
_CLAUDES = (HAIKU, SONNET)


class Dialogue:
    """What the wires share."""

    def __init__(self, texts: Texts) -> None:
        self.texts, self.dice, self.chance = texts, texts.dice, texts.chance

    def model(self) -> str:
        """Who is asked."""
        return self.dice.choice(MODELS)

    def prompt(self, model: str) -> str:
        """A text; now and then one that is longer than anybody expects."""
        if self.chance(0.03 if model in _LONG else 0.004):
            return self.texts.long(LONG_BYTES if model in _LONG else 220_000)
        if self.chance(0.25):
            return self.dice.choice(self.texts.shared) + self.texts.text(60)
        return self.texts.text()

    def cap(self) -> int:
        """Output that the caller allows."""
        return self.dice.choice([1, 2, 15, 16, 17, 100, 400, 400, 1_000, 5_000])


class Chat(Dialogue):
    """Chat completions."""

    path = "/v1/chat/completions"

    def body(self) -> Body:
        """A request."""
        model, dice = self.model(), self.dice
        alone, claude = model in _ALONE, model in _CLAUDES
        body: Body = {"model": model, "messages": self._messages(model)}
        stream = self.chance(0.4)
        if stream:
            body["stream"] = True
            if self.chance(0.5):
                body["stream_options"] = {"include_usage": self.chance(0.7)}
        if self.chance(0.6):
            body["max_tokens" if self.chance(0.4) else "max_completion_tokens"] = self.cap()
            if self.chance(0.05):
                body["max_tokens"] = self.cap()
        if self.chance(0.3):
            body |= self._tools(model)
        elif self.chance(0.15):
            body["response_format"] = self._format(claude)
        if self.chance(0.2) and not (alone or claude or stream):
            body["n"] = dice.choice([1, 2, 3, 8])
        if self.chance(0.3) and "tools" not in body and (model in _REASON or claude):
            body["reasoning_effort"] = dice.choice(_EFFORTS)
        if self.chance(0.2) and not claude:
            body["service_tier"] = dice.choice(_TIERS)
        if self.chance(0.1) and not alone:
            body["stop"] = dice.choice(["e", ["qu", "zz"], "\n"])
        if self.chance(0.1) and not alone:
            body["temperature"] = 1
        if self.chance(0.1):
            body["user"] = self.texts.text(40)
        if self.chance(0.02):
            body |= dice.choice(
                [{"web_search_options": {}}, {"models": [FULL]}, {"max_output_tokens": 9}]
            )
        return body

    def _messages(self, model: str) -> list[Body]:
        found: list[Body] = []
        if self.chance(0.4):
            role = self.dice.choice(["system", "developer"])
            found.append({"role": role, "content": self.prompt(model)})
        for _ in range(self.dice.choice([0, 0, 1, 3])):
            found.append({"role": "user", "content": self.texts.text()})
            found.append({"role": "assistant", "content": self.texts.text()})
        if self.chance(0.04):
            turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
            found += turn * self.dice.choice([20, 90])
        return [*found, {"role": "user", "content": self._content(model)}]

    def _content(self, model: str) -> Any:
        if self.chance(0.6):
            return self.prompt(model)
        parts: list[Body] = [{"type": "text", "text": self.prompt(model)}]
        for _ in range(self.dice.choice([0, 1, 1, 2])):
            image: Body = {"url": self.texts.picture()}
            if self.chance(0.6):
                image["detail"] = self.dice.choice(["low", "high", "auto"])
            parts.append({"type": "image_url", "image_url": image})
        if self.chance(0.15):
            file = {"filename": "a.pdf"}
            file["file_data"] = "data:application/pdf;base64," + self.texts.document()
            parts.append({"type": "file", "file": file})
        return parts

    def _tools(self, model: str) -> Body:
        names = self.texts.names()
        many = len(names) > 9
        tools: list[Body] = []
        for name in names:
            function: Body = {"name": name}
            if not many or self.chance(0.1):
                function["description"] = self.texts.text(500)
            if self.chance(0.9):
                function["parameters"] = self.texts.tiny_or_any_schema(many)
            tools.append({"type": "function", "function": function})
        body: Body = {"tools": tools}
        if self.chance(0.5):
            forced = {"type": "function", "function": {"name": names[0]}}
            body["tool_choice"] = self.dice.choice(["auto", "none", "required", forced])
        if self.chance(0.2):
            body["parallel_tool_calls"] = False
        if model == TERRA:
            body["reasoning_effort"] = self.dice.choice(["none", "low"])
        return body

    def _format(self, claude: bool) -> Body:
        if self.chance(0.3) and not claude:
            return {"type": "json_object"}
        shape = {"name": "answer", "schema": self.texts.schema(), "strict": self.chance(0.5)}
        return {"type": "json_schema", "json_schema": shape}


class Responses(Dialogue):
    """OpenAI's Responses API."""

    path = "/v1/responses"

    def body(self) -> Body:
        """A request."""
        model, dice = self.model(), self.dice
        claude, mini = model in _CLAUDES, model in (MINI, FULL, MILLION, CHAT_ONLY)
        body: Body = {"model": model, "input": self._input(model)}
        if self.chance(0.4):
            body["stream"] = True
        if self.chance(0.3):
            body["instructions"] = self.prompt(model)
        if self.chance(0.6):
            body["max_output_tokens"] = max(16, self.cap())
        if self.chance(0.3):
            body |= self._tools(model)
        elif self.chance(0.15):
            shape = {"type": "json_schema", "name": "answer", "schema": self.texts.schema()}
            body["text"] = {"format": shape}
        if self.chance(0.3) and not mini:
            body["reasoning"] = {"effort": dice.choice(_EFFORTS[1:4])}
            if self.chance(0.3):
                body["reasoning"]["summary"] = "auto"
        if self.chance(0.2) and not claude:
            body["service_tier"] = dice.choice(_TIERS)
        if self.chance(0.1):
            body["store"] = False
        if self.chance(0.1) and not (mini or claude):
            body["include"] = ["reasoning.encrypted_content"]
        if self.chance(0.02):
            body |= dice.choice([{"background": True}, {"prompt": {"id": "pmpt_1"}}])
        return body

    def _input(self, model: str) -> Any:
        if self.chance(0.3):
            return self.prompt(model)
        items: list[Body] = []
        for _ in range(self.dice.choice([0, 0, 1, 3])):
            items.append({"role": "user", "content": self.texts.text()})
            items.append({"role": "assistant", "content": self.texts.text()})
        if self.chance(0.2):
            items.append({"role": "user", "content": self.texts.text()})
            items += self._call(model)
        if self.chance(0.02):
            hosted = {"type": self.dice.choice(["web_search", "file_search", "mcp"])}
            items.append({"type": "additional_tools", "role": "developer", "tools": [hosted]})
        parts: list[Body] = [{"type": "input_text", "text": self.prompt(model)}]
        for _ in range(self.dice.choice([0, 0, 1, 2])):
            image = {"type": "input_image", "image_url": self.texts.picture()}
            image["detail"] = self.dice.choice(["low", "high", "auto"])
            parts.append(image)
        if self.chance(0.1):
            parts.append(self._file())
        return [*items, {"type": "message", "role": "user", "content": parts}]

    def _file(self) -> Body:
        file = {"type": "input_file", "filename": "a.pdf"}
        if self.chance(0.5):
            data = "data:application/pdf;base64," + self.texts.document()
            return {**file, "file_data": data}
        return {"type": "input_file", "file_url": f"https://example.com/{self.texts.name()}.pdf"}

    def _call(self, model: str) -> list[Body]:
        output: Any = self.texts.text()
        if self.chance(0.2) and model not in _CLAUDES:
            output = [{"type": "input_image", "image_url": self.texts.picture()}]
        call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
        return [call, {"type": "function_call_output", "call_id": "c1", "output": output}]

    def _tools(self, model: str) -> Body:
        names = self.texts.names()
        many = len(names) > 9
        tools: list[Body] = []
        for name in names:
            if self.chance(0.25) and model not in _ALONE:
                custom: Body = {"type": "custom", "name": name}
                if self.chance(0.5) and not many:
                    grammar = {"type": "grammar", "syntax": "lark", "definition": 'start: "x"'}
                    custom |= {"format": grammar, "description": self.texts.text(300)}
                tools.append(custom)
                continue
            tool: Body = {"type": "function", "name": name, "strict": False}
            tool["parameters"] = self.texts.tiny_or_any_schema(many)
            if not many:
                tool["description"] = self.texts.text(500)
            tools.append(tool)
        if self.chance(0.15):
            space = f"n{self.texts.name()}"
            tools = [{"type": "namespace", "name": space, "description": "x", "tools": tools}]
        if self.chance(0.1):
            tools.append({"type": self.dice.choice(["local_shell", "apply_patch", "web_search"])})
        body: Body = {"tools": tools}
        if self.chance(0.4):
            body["tool_choice"] = self.dice.choice(["auto", "none", "required"])
        return body


class Compact(Responses):
    """Compaction of a conversation."""

    path = "/v1/responses/compact"

    def model(self) -> str:
        """Who is asked: those that compact."""
        return self.dice.choice([name for name in MODELS if name.startswith("gpt")])

    def body(self) -> Body:
        """A request."""
        body = super().body()
        known = ("model", "input", "instructions", "tools", "reasoning", "text", "service_tier")
        return {name: value for name, value in body.items() if name in known}


class Messages(Dialogue):
    """Anthropic's Messages API."""

    path = "/v1/messages"

    def body(self) -> Body:
        """A request."""
        model, dice = self.model(), self.dice
        thinks = self.chance(0.2) and model in _CLAUDES
        body: Body = {"model": model, "messages": self._messages(model)}
        body["max_tokens"] = dice.randrange(1_100, 3_000) if thinks else self.cap()
        if thinks:
            body["thinking"] = {"type": "enabled", "budget_tokens": 1_024}
        if self.chance(0.4):
            body["stream"] = True
        if self.chance(0.4):
            body["system"] = [self._marked({"type": "text", "text": self.prompt(model)})]
        used = any(isinstance(turn["content"], list) and _calls(turn) for turn in body["messages"])
        if used or self.chance(0.3):
            body["tools"] = self._tools()
            if not thinks and self.chance(0.4):
                body["tool_choice"] = {"type": dice.choice(["auto", "any", "none"])}
        elif self.chance(0.1):
            shape = {"type": "json_schema", "schema": self.texts.schema()}
            body["output_config"] = {"format": shape}
        if self.chance(0.1) and model not in _ALONE:
            body["stop_sequences"] = dice.choice([["e"], ["qu", "zz"]])
        if self.chance(0.1) and not thinks:
            body["temperature"] = 1
        if self.chance(0.1):
            body["service_tier"] = dice.choice(["auto", "standard_only"])
        if self.chance(0.02):
            body |= dice.choice([{"mcp_servers": [{"type": "url"}]}, {"container": "c"}])
        return body

    def _marked(self, block: Body) -> Body:
        if not self.chance(0.2):
            return block
        control = {"type": "ephemeral"}
        if self.chance(0.6):
            control["ttl"] = self.dice.choice(["5m", "1h"])
        return {**block, "cache_control": control}

    def _messages(self, model: str) -> list[Body]:
        turns: list[Body] = []
        for _ in range(self.dice.choice([0, 0, 1, 3])):
            turns.append({"role": "user", "content": self.texts.text()})
            turns.append({"role": "assistant", "content": self.texts.text()})
        blocks: list[Body] = [{"type": "text", "text": self.prompt(model)}]
        if self.chance(0.25):
            blocks[0] = self._marked(blocks[0])
        images = [self._image() for _ in range(self.dice.choice([0, 0, 1, 2]))]
        blocks += [{"type": "image", "source": image} for image in images]
        if self.chance(0.15):
            blocks.append(self._document(model))
        turns.append({"role": "user", "content": blocks})
        if self.chance(0.15):
            use: Body = {"type": "tool_use", "id": "toolu_1", "name": "f"}
            use["input"] = {"q": self.texts.text()}
            result: Body = {"type": "tool_result", "tool_use_id": "toolu_1"}
            result["content"] = self.texts.text()
            if self.chance(0.2) and model in _CLAUDES:
                result["content"] = [{"type": "image", "source": self._image()}]
            turns += [
                {"role": "assistant", "content": [use]},
                {"role": "user", "content": [result]},
            ]
        return turns

    def _image(self) -> Body:
        if self.chance(0.5):
            return {"type": "url", "url": f"https://example.com/{self.texts.name()}.png"}
        return {"type": "base64", "media_type": "image/png", "data": self.texts.pixels()}

    def _document(self, model: str) -> Body:
        data = {"type": "base64", "media_type": "application/pdf", "data": self.texts.document()}
        sources: list[Body] = [data]
        if model in _CLAUDES:
            sources.append({"type": "url", "url": f"https://example.com/{self.texts.name()}.pdf"})
            text = {"type": "text", "media_type": "text/plain", "data": self.texts.text()}
            sources += [text, {"type": "content", "content": [{"type": "text", "text": "x"}]}]
        found: Body = {"type": "document", "source": self.dice.choice(sources)}
        if self.chance(0.5):
            found["title"] = self.texts.text(60)
        return found

    def _tools(self) -> list[Body]:
        names = ["f", *(f"x{name}" for name in self.texts.names())]
        many = len(names) > 9
        tools: list[Body] = []
        for name in names:
            tool = {"name": name, "input_schema": self.texts.tiny_or_any_schema(many)}
            if not many:
                tool["description"] = self.texts.text(500)
            tools.append(tool)
        if self.chance(0.05):
            search = {"type": "web_search_20250305", "name": "web_search"}
            shell = {"type": "bash_20250124", "name": "bash"}
            tools.append(self.dice.choice([search, shell]))
        if self.chance(0.2):
            tools[-1] = self._marked(tools[-1])
        return tools


def _calls(turn: Body) -> bool:
    return any(block["type"] in ("tool_use", "tool_result") for block in turn["content"])

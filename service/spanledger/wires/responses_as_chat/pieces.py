"""Items of a response while they are written: what each adds to a stream, and what it is in the end."""

from __future__ import annotations

import msgspec

from spanledger.wires.openai.foreign_items import OUR_REASONING
from spanledger.wires.responses_as_chat.calls import PREFIXES, call_item
from spanledger.wires.responses_as_chat.mistakes import Item
from spanledger.wires.responses_as_chat.tools import Tool

_ENCODER = msgspec.json.Encoder()


class Events:
    """Writes events, numbered from 0."""

    __slots__ = ("_number",)

    def __init__(self) -> None:
        self._number = 0

    def write(self, kind: str, data: Item) -> bytes:
        """An event."""
        whole = {"type": kind, "sequence_number": self._number, **data}
        self._number += 1
        return b"event: " + kind.encode() + b"\ndata: " + _ENCODER.encode(whole) + b"\n\n"


class Piece:
    """An item that is being written.

    Attributes:
        index: its place in the output.
        item: what it is so far.
    """

    def __init__(self, events: Events, index: int, item: Item) -> None:
        self.index = index
        self.item = item
        self._events = events

    def opened(self) -> bytes:
        """The event that it has begun with."""
        return self._whole("added")

    def closed(self, status: str) -> bytes:
        """The events that it ends with."""
        self.item["status"] = status
        return self._whole("done")

    def _whole(self, what: str) -> bytes:
        data = {"output_index": self.index, "item": self.item}
        return self._events.write(f"response.output_item.{what}", data)

    def _event(self, kind: str, **data: object) -> bytes:
        head = {"item_id": self.item["id"], "output_index": self.index}
        return self._events.write(f"response.{kind}", {**head, **data})


class Thought(Piece):
    """Reasoning."""

    def __init__(self, events: Events, index: int, key: str) -> None:
        item: Item = {"id": f"{OUR_REASONING}_{key}_{index}", "type": "reasoning", "summary": []}
        super().__init__(events, index, {**item, "status": "in_progress"})
        self._texts: list[str] = []

    def opened(self) -> bytes:
        """The item, and its only part."""
        part = {"type": "summary_text", "text": ""}
        return super().opened() + self._event(
            "reasoning_summary_part.added", summary_index=0, part=part
        )

    def add(self, text: str) -> bytes:
        """More of it."""
        self._texts.append(text)
        return self._event("reasoning_summary_text.delta", summary_index=0, delta=text)

    def closed(self, status: str) -> bytes:
        """The whole text, its part and the item."""
        text = "".join(self._texts)
        part = {"type": "summary_text", "text": text}
        self.item["summary"] = [part]
        data = self._event("reasoning_summary_text.done", summary_index=0, text=text)
        data += self._event("reasoning_summary_part.done", summary_index=0, part=part)
        return data + super().closed(status)


class Speech(Piece):
    """What the model says: parts of text, or of a refusal."""

    def __init__(self, events: Events, index: int, key: str) -> None:
        item: Item = {"id": f"msg_{key}_{index}", "type": "message", "role": "assistant"}
        super().__init__(events, index, {**item, "status": "in_progress", "content": []})
        self._kind = ""
        self._texts: list[str] = []
        self._logprobs: list[Item] = []
        self._annotations: list[Item] = []

    def add(self, text: str, logprobs: list[Item]) -> bytes:
        """More text."""
        data = self._turned_to("output_text")
        self._texts.append(text)
        self._logprobs += logprobs
        place = len(self.item["content"])
        return data + self._event(
            "output_text.delta", content_index=place, delta=text, logprobs=logprobs
        )

    def refuse(self, text: str) -> bytes:
        """More of a refusal."""
        data = self._turned_to("refusal")
        self._texts.append(text)
        place = len(self.item["content"])
        return data + self._event("refusal.delta", content_index=place, delta=text)

    def cite(self, annotations: list[Item]) -> bytes:
        """Sources of the text."""
        data = self._turned_to("output_text")
        for one in annotations:
            data += self._event(
                "output_text.annotation.added",
                content_index=len(self.item["content"]),
                annotation_index=len(self._annotations),
                annotation=one,
            )
            self._annotations.append(one)
        return data

    def closed(self, status: str) -> bytes:
        """The last part and the item. An answer that says nothing has an empty text."""
        data = b"" if self._kind or self.item["content"] else self._turned_to("output_text")
        return data + self._turned_to("") + super().closed(status)

    def _turned_to(self, kind: str) -> bytes:
        """End the part that is open, and open one of this kind."""
        if kind == self._kind:
            return b""
        data, place, text = b"", len(self.item["content"]), "".join(self._texts)
        if self._kind == "output_text":
            part = self._text(text)
            data += self._event(
                "output_text.done", content_index=place, text=text, logprobs=part["logprobs"]
            )
        elif self._kind:
            part = {"type": "refusal", "refusal": text}
            data += self._event("refusal.done", content_index=place, refusal=text)
        if self._kind:
            data += self._event("content_part.done", content_index=place, part=part)
            self.item["content"].append(part)
            self._texts, self._logprobs, self._annotations = [], [], []
        self._kind = kind
        if kind:
            empty = self._text("") if kind == "output_text" else {"type": kind, "refusal": ""}
            place = len(self.item["content"])
            data += self._event("content_part.added", content_index=place, part=empty)
        return data

    def _text(self, text: str) -> Item:
        return {
            "type": "output_text",
            "text": text,
            "annotations": self._annotations,
            "logprobs": self._logprobs,
        }


class CallPiece(Piece):
    """A call of a tool. Only a function's arguments are streamed as they come: those of other tools
    are read once they are complete."""

    def __init__(self, events: Events, index: int, key: str, tool: Tool, call_id: str) -> None:
        self._key = f"{PREFIXES[tool.kind]}_{key}_{index}"
        self.call_id = call_id or f"call_{key}_{index}"
        self.tool = tool
        self._arguments: list[str] = []
        super().__init__(events, index, self._made("", "in_progress"))

    def add(self, arguments: str) -> bytes:
        """More arguments."""
        self._arguments.append(arguments)
        if self.tool.kind != "function":
            return b""
        return self._event("function_call_arguments.delta", delta=arguments)

    def closed(self, status: str) -> bytes:
        """The whole arguments and the item."""
        arguments, kind, data = "".join(self._arguments), self.tool.kind, b""
        if kind == "function" and not arguments and status == "completed":
            arguments = "{}"  # some servers send nothing for a function without arguments
        self.item = self._made(arguments, status)
        if kind == "function":
            name = self.tool.name
            data = self._event("function_call_arguments.done", arguments=arguments, name=name)
        elif kind == "custom":
            text = self.item["input"]
            data = self._event("custom_tool_call_input.delta", delta=text)
            data += self._event("custom_tool_call_input.done", input=text)
        return data + self._whole("done")

    def _made(self, arguments: str, status: str) -> Item:
        if self.tool.kind == "apply_patch" and status == "incomplete":
            status = "in_progress"  # it knows no other word for a patch that was cut short
        return {"id": self._key, **call_item(self.tool, self.call_id, arguments, status)}

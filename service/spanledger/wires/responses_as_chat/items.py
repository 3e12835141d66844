"""The input of a Responses request as messages of a chat.

Items of one turn of the model become one message, and the results of its calls follow it at once,
wherever they are in the input: chat servers refuse them anywhere else. Images in a result follow in a
message of the user, as a tool's message has text only.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from spanledger.wires.fields import among
from spanledger.wires.openai.foreign_items import OUR_REASONING
from spanledger.wires.responses_as_chat.calls import CALLS, OUTPUTS, made_by, result_of
from spanledger.wires.responses_as_chat.mistakes import Item, Mistakes, items_in, shown, text_of
from spanledger.wires.responses_as_chat.tools import Toolbox

_OF_THE_MODEL = "assistant"
_SYSTEM = frozenset({"system", "developer"})
_TEXTS = frozenset({"input_text", "output_text", "text", "summary_text", "reasoning_text"})
_LEFT_OUT = frozenset(
    {
        "additional_tools",
        "code_interpreter_call",
        "file_search_call",
        "image_generation_call",
        "mcp_call",
        "mcp_list_tools",
        "web_search_call",
    }
)
"""Items of tools that ran at OpenAI in earlier turns; what they led to is in the turn's text. The
tools of `additional_tools` are read with the others."""
_REFUSED = {
    "compaction": "it can be read at OpenAI alone; send the items that it stands for",
    "compaction_summary": "it can be read at OpenAI alone; send the items that it stands for",
    "compaction_trigger": "this model compacts nothing; leave it out and send a shorter input",
    "computer_call": "this model has no computer; use functions",
    "computer_call_output": "this model has no computer; use functions",
    "mcp_approval_request": "this model calls no MCP servers; use functions",
    "mcp_approval_response": "this model calls no MCP servers; use functions",
    "program": "programs run at OpenAI alone; use functions",
    "program_output": "programs run at OpenAI alone; use functions",
}


def chat_messages(
    instructions: Any, given: Any, box: Toolbox, reasoning: str, mistakes: Mistakes
) -> list[Item]:
    """The messages. `reasoning` names the field for earlier reasoning; empty = it is left out."""
    turns = _Turns(box, reasoning, mistakes)
    if instructions is not None:
        turns.system(instructions, "instructions")
    if isinstance(given, str):
        turns.messages.append({"role": "user", "content": given})
        return turns.messages
    if not isinstance(given, list):
        mistakes.add("input", "it must be a string or an array of items")
        return []
    items = [item if isinstance(item, dict) else {} for item in given]
    turns.results(items)
    for number, item in enumerate(items):
        turns.item(item, f"input[{number}]")
    turns.end()
    return turns.messages


class _Turns:
    """Puts messages together, item by item."""

    def __init__(self, box: Toolbox, reasoning: str, mistakes: Mistakes) -> None:
        self.messages: list[Item] = []
        self._box = box
        self._reasoning = reasoning
        self._problems = mistakes
        self._results: dict[str, deque[str | list[Item]]] = {}
        self._said: list[Item] = []
        self._thought: list[str] = []
        self._calls: list[Item] = []

    def results(self, items: list[Item]) -> None:
        """Gather the results of all calls, by the call's id."""
        called = {
            text_of(i.get("call_id")) or text_of(i.get("id"))
            for i in items
            if among(i.get("type"), CALLS)
        }
        for number, item in enumerate(items):
            if not among(item.get("type"), OUTPUTS):
                continue
            call_id, output = result_of(item)
            if call_id not in called:
                self._problems.add(
                    f"input[{number}]",
                    f"the call {shown(call_id)} is not in the input, and this model stores nothing;"
                    " send all items of the conversation",
                )
            self._results.setdefault(call_id, deque()).append(output)

    def item(self, item: Item, place: str) -> None:
        """Add the next item of the input."""
        kind = item.get("type") or ("message" if "role" in item else None)
        if kind is None and "id" in item:
            kind = "item_reference"
        if kind == "message":
            self._message(item, place)
        elif among(kind, CALLS):
            self._call(item, place)
        elif among(kind, OUTPUTS):
            self.end()
        elif kind == "reasoning":
            self._think(item)
        elif kind == "item_reference" and text_of(item.get("id")).startswith(OUR_REASONING):
            self._problems.note("input")
        elif kind == "item_reference":
            told = (
                f"nothing is stored under {shown(item.get('id'))}; send the item itself, as clients"
                " do with `store: false`"
            )
            self._problems.add(place, told)
        elif among(kind, _LEFT_OUT):
            if kind != "additional_tools":
                self._problems.note("input")
        else:
            known = _REFUSED.get(kind) if isinstance(kind, str) else None
            self._problems.add(place, known or f"this model takes no items of type {shown(kind)}")

    def system(self, content: Any, place: str) -> None:
        """Add to the instructions: those at the beginning become one message, as many models
        take only one."""
        self.end()
        parts = self._parts(content, place)
        if any(part["type"] != "text" for part in parts):
            self._problems.add(place, "instructions may have text only")
        text = "\n".join(text_of(part.get("text")) for part in parts)
        if len(self.messages) == 1 and self.messages[0]["role"] == "system":
            self.messages[0]["content"] += f"\n\n{text}"
        else:
            self.messages.append({"role": "system", "content": text})

    def end(self) -> None:
        """End the model's turn: its message, and the results of its calls."""
        said, thought, calls = self._said, self._thought, self._calls
        self._said, self._thought, self._calls = [], [], []
        if not (said or calls):
            return
        message: Item = {"role": _OF_THE_MODEL, "content": _plain(said) if said else None}
        if thought and self._reasoning:
            message[self._reasoning] = "\n\n".join(thought)
        elif thought:
            self._problems.note("input")
        if calls:
            message["tool_calls"] = calls
        self.messages.append(message)
        pictures: list[Item] = []
        for call in calls:
            pictures += self._result(call["id"])
        if pictures:
            self.messages.append({"role": "user", "content": pictures})

    def _message(self, item: Item, place: str) -> None:
        role = item.get("role")
        if among(role, _SYSTEM):
            self.system(item.get("content"), place)
        elif role == "user":
            self.end()
            parts = self._parts(item.get("content"), place)
            self.messages.append({"role": "user", "content": _plain(parts)})
        elif role == _OF_THE_MODEL:
            if self._said and not self._calls:
                self.end()
            self._said += self._parts(item.get("content"), place)
        else:
            told = "the role must be user, assistant, system or developer"
            self._problems.add(place, told)

    def _call(self, item: Item, place: str) -> None:
        made = made_by(item)
        if made is None:
            self._problems.add(place, "a call needs its call_id and name")
            return
        if not self._results.get(made.call_id):
            told = f"the call {shown(made.call_id)} has no result; send its output as well"
            self._problems.add(place, told)
        name = self._box.name_of(made.tool)
        function = {"name": name, "arguments": made.arguments}
        self._calls.append({"id": made.call_id, "type": "function", "function": function})

    def _think(self, item: Item) -> None:
        """Earlier reasoning that can be read. Where it is encrypted as well, it is OpenAI's."""
        parts = items_in(item.get("content")) or items_in(item.get("summary"))
        texts = [text for part in parts if (text := text_of(part.get("text")))]
        if item.get("encrypted_content"):
            self._problems.note("input")
        else:
            self._thought += texts

    def _result(self, call_id: str) -> list[Item]:
        """Add a result. Returns what of it a tool's message cannot have."""
        waiting = self._results.get(call_id)
        if not waiting:
            return []
        output = waiting.popleft()
        parts = self._parts(output, f"the output of {shown(call_id)}")
        texts = [part for part in parts if part["type"] == "text"]
        text = "\n".join(part["text"] for part in texts)
        self.messages.append({"role": "tool", "tool_call_id": call_id, "content": text})
        return [part for part in parts if part["type"] != "text"]

    def _parts(self, content: Any, place: str) -> list[Item]:
        if content is None or isinstance(content, str):
            return [{"type": "text", "text": content or ""}]
        if not isinstance(content, list):
            self._problems.add(place, "content must be a string or an array of parts")
            return []
        found = [_part(part, place, self._problems) for part in items_in(content)]
        return [part for part in found if part is not None]


def _plain(parts: list[Item]) -> str | list[Item]:
    """A single text as a string, which every server takes."""
    if len(parts) == 1 and parts[0]["type"] == "text":
        return text_of(parts[0]["text"])
    return parts


def _part(part: Item, place: str, mistakes: Mistakes) -> Item | None:
    kind = part.get("type")
    if among(kind, _TEXTS):
        return {"type": "text", "text": text_of(part.get("text"))}
    if kind == "refusal":
        return {"type": "text", "text": text_of(part.get("refusal"))}
    if kind == "input_image":
        return _image(part, place, mistakes)
    if kind == "input_file":
        return _file(part, place, mistakes)
    if kind == "input_audio" and isinstance(part.get("input_audio"), dict):
        return {"type": "input_audio", "input_audio": part["input_audio"]}
    mistakes.add(place, f"this model takes no content of type {shown(kind)}")
    return None


def _image(part: Item, place: str, mistakes: Mistakes) -> Item | None:
    url = part.get("image_url")
    if isinstance(url, dict):  # as in a chat; clients mix them up
        url = url.get("url")
    if not isinstance(url, str):
        mistakes.add(place, "this model has no files of OpenAI; send the image as an image_url")
        return None
    detail = part.get("detail")
    image = {"url": url}
    if detail in ("low", "high", "auto"):
        image["detail"] = detail
    elif detail is not None:
        mistakes.note("input")
    return {"type": "image_url", "image_url": image}


def _file(part: Item, place: str, mistakes: Mistakes) -> Item | None:
    data = part.get("file_data")
    if not isinstance(data, str) or not data:
        mistakes.add(place, "this model fetches no files; send the file itself as file_data")
        return None
    name = text_of(part.get("filename")) or "document.pdf"
    return {"type": "file", "file": {"filename": name, "file_data": data}}

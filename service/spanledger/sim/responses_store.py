"""The answers that the simulated Responses API keeps, each for the key that paid for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from spanledger.sim.prompt import Recent, RefusalError, objects, string

JsonBody = dict[str, object]

STORED_MAX = 10_000


@dataclass(slots=True)
class Stored:
    """One answer.

    Attributes:
        response: the object as it is now; a background answer changes.
        given: the request's own items.
        context: every item a follow-up of it begins with.
        owner: the digest of its key.
    """

    response: JsonBody
    given: list[JsonBody]
    context: list[JsonBody]
    owner: str


@dataclass(slots=True)
class Store:
    """Answers by id; the one unused for longest is forgotten first."""

    answers: Recent[Stored] = field(default_factory=lambda: Recent(STORED_MAX))
    items: Recent[tuple[str, JsonBody]] = field(default_factory=lambda: Recent(STORED_MAX))

    def put(self, stored: Stored) -> None:
        """Keep an answer, or what became of it."""
        self.answers.put(string(stored.response["id"]).encode(), stored)
        for item in objects(stored.response.get("output")):
            self.items.put(string(item.get("id")).encode(), (stored.owner, item))

    def get(self, response_id: str, owner: str) -> Stored | None:
        """An answer of this key's."""
        found = self.answers.get(response_id.encode("utf-8", "surrogatepass"))
        return found if found is not None and found.owner == owner else None

    def delete(self, response_id: str) -> None:
        """Forget an answer."""
        self.answers.items.pop(response_id.encode(), None)

    def items_of(self, given: object) -> list[JsonBody]:
        """The input as a list of items."""
        if isinstance(given, str):
            content = [{"type": "input_text", "text": given}]
            return [{"type": "message", "role": "user", "content": content}]
        return objects(given)

    def check_references(self, items: list[JsonBody], owner: str) -> None:
        """Refuse items that are named by an id and not kept here.

        Raises:
            RefusalError: 404, with OpenAI's message.
        """
        for item in items:
            item_id = string(item.get("id"))
            named = item.get("type") == "item_reference"
            bare = item.get("type") == "reasoning" and not item.get("encrypted_content")
            if item_id and (named or bare) and self._item(item_id, owner) is None:
                raise RefusalError(
                    404,
                    f"Item with id '{item_id}' not found. Items are not persisted when `store` is "
                    "set to false. Try again with `store` set to true, or remove this item from "
                    "your input.",
                    param="input",
                    code=None,
                )

    def resolved(self, item: JsonBody, owner: str) -> JsonBody:
        """The item itself, where it is only named."""
        if item.get("type") != "item_reference":
            return item
        return self._item(string(item.get("id")), owner) or item

    def _item(self, item_id: str, owner: str) -> JsonBody | None:
        found = self.items.get(item_id.encode("utf-8", "surrogatepass"))
        return found[1] if found is not None and found[0] == owner else None

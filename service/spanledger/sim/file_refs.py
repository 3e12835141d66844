"""Files that the parts of a message name: they must have been uploaded with the same key."""

from __future__ import annotations

from spanledger.sim.prompt import Recent, RefusalError, objects, string

FILES_MAX = 10_000
_PARTS = ("file", "input_file", "input_image")


def check_files(body: dict[str, object], known: Recent[str], owner: str) -> None:
    """Refuse a file that this key has not.

    Raises:
        RefusalError: 404, as OpenAI's.
    """
    for message in (*objects(body.get("messages")), *objects(body.get("input"))):
        for part in objects(message.get("content")):
            if part.get("type") not in _PARTS:
                continue
            inner = part.get("file")
            named = string((inner if isinstance(inner, dict) else part).get("file_id"))
            if named and known.get(named.encode("utf-8", "surrogatepass")) != owner:
                raise RefusalError(404, f"No such File object: {named}", param="file_id", code=None)

"""Forms as the simulated provider reads them: whole, in memory, and strictly."""

from __future__ import annotations

import re
from dataclasses import dataclass

from spanledger.sim.prompt import RefusalError

PARTS_MAX = 200
_NAME = re.compile(r'; name="([^"]*)"')
_FILE = re.compile(r'; filename="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class File:
    """A file of a form."""

    name: str
    data: bytes


def read_form(content_type: str, body: bytes) -> dict[str, object]:
    """The fields of a form: texts, files, and lists under names that end with `[]`.

    Raises:
        RefusalError: it is not a form, or a name occurs twice.
    """
    kind, _, rest = content_type.partition(";")
    _, mark, boundary = rest.strip().partition("boundary=")
    if kind.strip() != "multipart/form-data" or not mark:
        raise RefusalError(400, f"Unsupported content type: '{content_type}'.")
    line = b"--" + boundary.strip('"').encode()
    pieces = (b"\r\n" + body).split(b"\r\n" + line)
    if len(pieces) > PARTS_MAX or pieces[0] or pieces[-1].rstrip() != b"--":
        raise RefusalError(400, "Could not parse multipart form.")
    found: dict[str, object] = {}
    for piece in pieces[1:-1]:
        head, blank, value = piece.partition(b"\r\n\r\n")
        shown = head.decode("utf-8", "replace")
        name, file = _NAME.search(shown), _FILE.search(shown)
        if not blank or name is None:
            raise RefusalError(400, "Could not parse multipart form.")
        item: object = File(file[1], value) if file else value.decode("utf-8", "replace")
        if name[1].endswith("[]"):
            items = found.setdefault(name[1].removesuffix("[]"), [])
            assert isinstance(items, list)
            items.append(item)
        elif name[1] in found:
            raise RefusalError(400, f"Duplicate form field: '{name[1]}'.", param=name[1])
        else:
            found[name[1]] = item
    return found

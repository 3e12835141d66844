"""Files in the bodies of requests: where their ids stand, and requests with other ids."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanledger.errors import InvalidRequestError
from spanledger.wires.fields import decode
from spanledger.wires.file_ids import MAX_FILES_NAMED, named_files, names_files, renamed

NAMES = {"file-ours": "file-theirs", "file-b": 'file-"\\1'}
PLACES: list[Any] = [
    {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "ID"}}]}]},
    {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "ID"}]}]},
    {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "ID"}]}]},
    {
        "messages": [
            {"content": [{"type": "document", "source": {"type": "file", "file_id": "ID"}}]}
        ]
    },
    {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["ID"]}}]},
    {"images": [{"file_id": "ID"}], "mask": {"file_id": "ID"}},
]


def body(place: Any, unique: str) -> bytes:
    """A request that names a file at a place."""
    return json.dumps(place).replace("ID", unique).encode()


@pytest.mark.parametrize("place", PLACES)
def test_where_ids_stand(place: Any) -> None:
    """A file is found wherever an API names one, and gets another id there."""
    data = body(place, "file-ours")
    assert names_files(data)
    fields = decode(data)
    assert named_files(fields) == ["file-ours"]
    found = {name: json.loads(bytes(raw)) for name, raw in renamed(fields, NAMES).items()}
    assert found == json.loads(body(place, "file-theirs"))


@pytest.mark.parametrize("name", ["fil\\u0065_id", "\\u0066ile\\u005fid", "file\\u005Fids"])
def test_an_id_in_disguise(name: str) -> None:
    """Escapes in a field's name or in the id hide neither."""
    value = '["\\u0066ile-ours"]' if name.endswith("s") else '"file\\u002dours"'
    data = b'{"input":[{"%s":%s}]}' % (name.encode(), value.encode())
    assert names_files(data)
    assert named_files(decode(data)) == ["file-ours"]
    assert b"theirs" in bytes(renamed(decode(data), NAMES)["input"])


@pytest.mark.parametrize(
    "data",
    [
        {"messages": [{"role": "user", "content": "the file_id is file-ours"}]},
        {"metadata": {"file_id": "file-ours"}},
        {"tools": [{"parameters": {"properties": {"file_id": {"type": "string"}}}}]},
        {"messages": [{"tool_calls": [{"function": {"arguments": '{"file_id": "file-ours"}'}}]}]},
        {"messages": [{"role": "user", "content": "caf\u00e9 \u0416"}]},
    ],
)
def test_what_names_no_file(data: Any) -> None:
    """Texts, the caller's metadata and schemas may have the same words, and stay as they are."""
    fields = decode(json.dumps(data).encode())
    assert named_files(fields) == []
    assert renamed(fields, NAMES) == fields


def test_everything_else_stays() -> None:
    """Spaces, order and repetitions are the caller's, and so is a text that is just the id."""
    data = b'{"input": [ {"file_id" :  "file-ours", "x": 1.50}, {"text": "file-ours"} ]}'
    found = bytes(renamed(decode(data), NAMES)["input"])
    assert found == b'[ {"file_id" :  "file-theirs", "x": 1.50}, {"text": "file-ours"} ]'


def test_too_many_files() -> None:
    """A request that names very many files is refused."""
    many = [{"file_id": f"file-{n}"} for n in range(MAX_FILES_NAMED + 1)]
    with pytest.raises(InvalidRequestError) as caught:
        named_files(decode(json.dumps({"input": many}).encode()))
    assert caught.value.code == "too_many_files"


leaves = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4) | st.just("file-ours")
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "file_id", "file_ids", "text"]), inner, max_size=3)
    ),
    max_leaves=12,
)


def swapped(value: Any) -> Any:
    """What a request is to become."""
    if isinstance(value, list):
        return [swapped(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {name: swapped(each) for name, each in value.items()}
    if isinstance(value.get("file_id"), str):
        found["file_id"] = NAMES.get(value["file_id"], value["file_id"])
    if isinstance(value.get("file_ids"), list):
        given = zip(value["file_ids"], found["file_ids"], strict=True)
        found["file_ids"] = [NAMES.get(o, o) if isinstance(o, str) else n for o, n in given]
    return found


@given(value=values, ascii_only=st.booleans())
def test_any_body(value: Any, *, ascii_only: bool) -> None:
    """In any JSON the ids change where they name files, and nowhere else."""
    raw = json.dumps(value, ensure_ascii=ascii_only).encode()
    found = renamed({"input": msgspec.Raw(raw)}, NAMES)["input"]
    assert json.loads(bytes(found)) == swapped(value)

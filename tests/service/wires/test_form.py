"""Forms are located as they arrive, and written for a deployment from the caller's own bytes."""

from __future__ import annotations

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanledger.errors import InvalidRequestError
from spanledger.wires.form import (
    MAX_PARTS,
    MAX_TEXT_BYTES,
    ByteRange,
    Form,
    FormReader,
    Pieces,
    boundary_of,
)
from spanledger.wires.openai.forms import read_fields

MARK = b"frontier"


def part(head: str, value: bytes = b"x") -> bytes:
    """One part, with its boundary before it."""
    return b"--" + MARK + b"\r\n" + head.encode() + b"\r\n\r\n" + value + b"\r\n"


def field(name: str, value: bytes = b"x") -> bytes:
    """A field that is a text."""
    return part(f'Content-Disposition: form-data; name="{name}"', value)


def file(name: str, value: bytes, filename: str = "a.wav") -> bytes:
    """A file."""
    head = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"'
    return part(f"{head}\r\nContent-Type: audio/wav", value)


def body(*parts: bytes) -> bytes:
    """A form."""
    return b"".join(parts) + b"--" + MARK + b"--\r\n"


def located(data: bytes, size: int = 0) -> Form:
    """A form, read in steps of this size."""
    reader = FormReader(MARK)
    for at in range(0, len(data), size or len(data) or 1):
        reader.feed(data[at : at + (size or len(data))])
    return reader.finish()


def sent(data: bytes, pieces: Pieces) -> bytes:
    """What goes out."""
    made = b"".join(i if isinstance(i, bytes) else data[i.start : i.end] for i in pieces.items)
    assert len(made) == pieces.size
    return made


SAMPLE = body(
    field("model", b"mine"),
    file("file", b"\r\n--front\r\n--fronti\0\xff" * 50, "Stra\u00dfe \u6211.wav"),
    field("empty", b""),
    field("timestamp_granularities[]", b"word"),
    field("timestamp_granularities[]", b"segment"),
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 0])
def test_a_form_may_be_cut_anywhere(size: int) -> None:
    """However its bytes arrive, the same parts are found at the same places."""
    form = located(SAMPLE, size)

    assert [(p.name, p.is_file) for p in form.parts] == [
        ("model", False),
        ("file", True),
        ("empty", False),
        ("timestamp_granularities[]", False),
        ("timestamp_granularities[]", False),
    ]
    (audio,) = form.files("file")
    assert SAMPLE[audio.value_at : audio.value_at + audio.size].endswith(b"\xff")
    assert {name: msgspec.json.decode(raw) for name, raw in form.fields.items()} == {
        "model": "mine",
        "file": {"bytes": audio.size},
        "empty": "",
        "timestamp_granularities[]": ["word", "segment"],
    }


def test_only_the_model_is_exchanged() -> None:
    """Every other byte goes out as it came."""
    form = located(SAMPLE)
    made = sent(SAMPLE, form.pieces(form.fields, "whisper-1"))

    assert made == SAMPLE.replace(b"\r\n\r\nmine\r\n", b"\r\n\r\nwhisper-1\r\n")
    assert sum(isinstance(item, ByteRange) for item in form.pieces(form.fields, "m").items) == 2


def test_a_deployment_adds_and_leaves_out() -> None:
    """What the file says of a deployment holds for forms too."""
    form = located(body(field("model"), field("language", b"en"), field("prompt", b"Hi")))
    fields = {name: raw for name, raw in form.fields.items() if name != "language"}
    fields["prompt"] = msgspec.Raw(b'"Ours"')
    fields["temperature"] = msgspec.Raw(b"0.2")

    made = sent(
        body(field("model"), field("language", b"en"), field("prompt", b"Hi")),
        form.pieces(fields, "m"),
    )
    assert made == body(
        field("model", b"m"), field("prompt", b"Ours"), field("temperature", b"0.2")
    )


@given(
    values=st.lists(st.binary(max_size=200).filter(lambda v: MARK not in v), max_size=6),
    size=st.integers(1, 40),
)
def test_any_bytes_survive(values: list[bytes], size: int) -> None:
    """What a file has does not matter, as long as it is not the boundary."""
    data = body(*(file(f"f{i}", value) for i, value in enumerate(values)), field("model", b"a"))
    form = located(data, size)

    assert [data[p.value_at : p.value_at + p.size] for p in form.parts[:-1]] == values
    assert sent(data, form.pieces(form.fields, "a")) == data


BAD_FORMS = {
    "empty": b"",
    "not a form": b'{"model": "m"}',
    "cut": body(field("model"))[:-8],
    "no end": field("model") + b"--" + MARK + b"\r\n",
    "preamble": b"hello\r\n" + body(field("model")),
    "epilogue": body(field("model")) + b"more",
    "boundary inside": body(file("file", b"a --" + MARK + b" b")),
    "boundary after a bare newline": body(file("file", b"a\n--" + MARK + b"\nb")),
    "longer boundary": body(field("model")).replace(b"--\r\n", b"x--\r\n"),
    "no disposition": body(part("Content-Type: text/plain")),
    "two dispositions": body(
        part(
            'Content-Disposition: form-data; name="model"\r\n'
            'Content-Disposition: form-data; name="x"'
        )
    ),
    "two names": body(part('Content-Disposition: form-data; name="model"; name="x"')),
    "another name": body(part("Content-Disposition: form-data; name=\"x\"; name*=UTF-8''model")),
    "no name": body(part("Content-Disposition: form-data")),
    "empty name": body(part('Content-Disposition: form-data; name=""')),
    "encoded": body(
        part('Content-Disposition: form-data; name="model"\r\nContent-Transfer-Encoding: base64')
    ),
    "folded header": body(part('Content-Disposition: form-data;\r\n name="model"')),
    "header without an end": b"--" + MARK + b"\r\n" + b"x" * 9_000,
    "not UTF-8": body(field("model", b"\xff")),
    "too many parts": body(*[field(f"f{i}") for i in range(MAX_PARTS + 1)]),
    "too much text": body(field("prompt", b"x" * (MAX_TEXT_BYTES + 1))),
    "bytes in a header's name": body(
        part('Content-Disposition: form-data; name="a"\r\nCont\xffent: b')
    ),
    "a blank before a name": body(part('Content-Disposition: form-data; name=" n"')),
    "a blank behind a name": body(part('Content-Disposition: form-data; name="n "')),
}


@pytest.mark.parametrize("data", BAD_FORMS.values(), ids=BAD_FORMS.keys())
@pytest.mark.parametrize("size", [0, 5])
def test_mistakes_are_refused(data: bytes, size: int) -> None:
    """What two readers could read differently, or none at all."""
    with pytest.raises(InvalidRequestError, match="the form cannot be read"):
        located(data, size if len(data) < 100_000 else 0)


BAD_FIELDS = {
    "two models": (field("model", b"a"), field("model", b"b")),
    "model as a list": (field("model[]", b"a"),),
    "model as a file": (file("model", b"a"),),
    "no model": (field("prompt"),),
    "another spelling": (field("model", b"a"), field("Stream", b"true")),
    "stream": (field("model", b"a"), field("stream", b"maybe")),
    "another spelling of what an image costs": (field("model", b"a"), field("Quality", b"high")),
}


def test_a_head_that_is_slow_to_refuse() -> None:
    """Blanks before a mistake do not keep the event loop busy: each is looked at once."""
    ends_at = time.monotonic() + 20
    for _ in range(200):
        with pytest.raises(InvalidRequestError):
            located(body(part("Content-Disposition: form-data; name=a" + " " * 7_900 + "x")))
        assert time.monotonic() < ends_at


@pytest.mark.parametrize("parts", BAD_FIELDS.values(), ids=BAD_FIELDS.keys())
def test_fields_that_decide_come_once(parts: tuple[bytes, ...]) -> None:
    """And as what they are."""
    with pytest.raises(InvalidRequestError):
        read_fields(located(body(*parts)))


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b'Multipart/Form-Data;boundary="a b:c"', b"a b:c"),
        (b"multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxk", b"----WebKitFormBoundary7MA4YWxk"),
        (b"multipart/form-data", b""),
        (b"multipart/form-data; boundary=", b""),
        (b"multipart/form-data; boundary=a; boundary=b", b""),
        (b"multipart/form-data; boundary=" + b"x" * 71, b""),
        (b"application/json", b""),
        (b"", b""),
    ],
)  # fmt: skip
def test_the_boundary(kind: bytes, wanted: bytes) -> None:
    """It is read off the content type, or the error says what is wrong with that."""
    if wanted:
        assert boundary_of({b"content-type": kind}) == wanted
        return
    with pytest.raises(InvalidRequestError, match=r"Content-Type"):
        boundary_of({b"content-type": kind})

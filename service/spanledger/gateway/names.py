"""Whom a request is for besides its key's customer and team: a user, a project, and tags.

They come from the key, from headers that the configuration trusts, and from the body, as OpenAI,
Anthropic and LiteLLM have them. What a key has, a request cannot change: it can only add tags, and name
a user or a project where its key has none, or a user in place of the key's default. So no request escapes a budget of its key, its key's
customer, team, user, project or tags.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from spanledger.config.sections import GatewaySettings
from spanledger.errors import InvalidRequestError
from spanledger.gateway.auth import ForWhom, HeaderMap
from spanledger.ledger.model import MAX_TAGS
from spanledger.wires.fields import DECODE_ERRORS, OBJECT, Fields, is_set

MAX_SUBJECT_CHARS = 256
_FIELDS = frozenset({"user", "safety_identifier", "metadata", "litellm_metadata", "tags"})
_TEXT = msgspec.json.Decoder(str)
_TEXTS = msgspec.json.Decoder(list[str])
_SESSION = re.compile(r"(user_[0-9a-f]+_account_[0-9a-f-]*)_session_.+")
"""How Claude Code names a user: with the session, which is another one each time."""


class _Device(msgspec.Struct):
    """How newer versions of Claude Code name a user, as JSON in a text."""

    device_id: str = ""
    account_uuid: str = ""


class NameSources:
    """Reads the names of requests, from where a gateway's settings allow."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._users = _lowered(settings.user_headers)
        self._projects = _lowered(settings.project_headers)
        self._tags = _lowered(settings.tag_headers)
        self._from_body = settings.names_in_body
        self._from_headers = bool(self._users or self._projects or self._tags)

    def names(self, given: ForWhom, headers: HeaderMap, fields: Fields | None = None) -> ForWhom:
        """The names of a request whose key has `given` ones.

        Args:
            fields: its body, if it was read. What only LiteLLM understands is taken out, because
                providers refuse it.

        Raises:
            InvalidRequestError: a name cannot be one, or there are too many tags.
        """
        in_body = fields if self._from_body and fields and not _FIELDS.isdisjoint(fields) else None
        if in_body is None and not self._from_headers:
            return given
        users = [] if given.user_may_differ else [given.user]
        projects, tags = [given.project], [*given.tags]
        if self._from_headers:
            users += [_checked(text, at) for at, text in _given(headers, self._users)]
            projects += [_checked(text, at) for at, text in _given(headers, self._projects)]
            for at, text in _given(headers, self._tags):
                tags += [_checked(tag, at) for tag in text.split(",")]
        if in_body is not None:
            _read_body(in_body, users, projects, tags)
        return ForWhom(
            next(filter(None, users), given.user),
            next(filter(None, projects), ""),
            _checked_tags(tags),
        )


def _read_body(fields: Fields, users: list[str], projects: list[str], tags: list[str]) -> None:
    """Add the names in a body, in LiteLLM's order of precedence."""
    if "user" in fields:
        users.append(_user(fields["user"], "user"))
    for place in ("litellm_metadata", "metadata"):
        raw = fields.get(place)
        if raw is None or _first(raw) != b"{":
            continue
        try:
            metadata = OBJECT.decode(raw)
        except DECODE_ERRORS:
            continue  # a provider says what is wrong with it
        _read_metadata(metadata, place, users, projects, tags)
        if place == "metadata":
            _without_ours(fields, metadata)
    if "safety_identifier" in fields:
        users.append(_user(fields["safety_identifier"], "safety_identifier"))
    if (raw := fields.get("tags")) is not None and _first(raw) in (b"[", b'"'):
        tags += _list(raw, "tags")
        del fields["tags"]
    fields.pop("litellm_metadata", None)


def _read_metadata(
    metadata: Fields, place: str, users: list[str], projects: list[str], tags: list[str]
) -> None:
    ours = ("user", "user_id") if place == "litellm_metadata" else ("user_id",)
    users += [_user(metadata[name], f"{place}.{name}") for name in ours if name in metadata]
    _read_marks(metadata, place, projects, tags)
    raw = metadata.get("spend_logs_metadata")
    if raw is not None and _first(raw) == b"{":
        # Once, and not in what is nested further: each level would read all of the rest again.
        _read_marks(OBJECT.decode(raw), f"{place}.spend_logs_metadata", projects, tags)


def _read_marks(metadata: Fields, place: str, projects: list[str], tags: list[str]) -> None:
    if "project" in metadata:
        projects.append(_name(metadata["project"], f"{place}.project"))
    if "tags" in metadata:
        tags += _list(metadata["tags"], f"{place}.tags")


def _without_ours(fields: Fields, metadata: Fields) -> None:
    """Take what only LiteLLM has out of the body's metadata: OpenAI accepts only texts there."""
    ours = [
        name
        for name in ("tags", "spend_logs_metadata")
        if name in metadata and _first(metadata[name]) != b'"'
    ]
    if not ours:
        return
    left = {name: raw for name, raw in metadata.items() if name not in ours}
    if left:
        fields["metadata"] = msgspec.Raw(msgspec.json.encode(left))
    else:
        del fields["metadata"]


def _user(raw: msgspec.Raw, place: str) -> str:
    """A user; one whose name has a session in it without that."""
    name = _name(raw, place)
    if match := _SESSION.fullmatch(name):
        return match[1]
    if name.startswith("{"):
        try:
            device = msgspec.json.decode(name, type=_Device)
        except DECODE_ERRORS:
            return name
        return device.account_uuid or device.device_id or name
    return name


def _name(raw: msgspec.Raw, place: str) -> str:
    """A text that may be a name, or empty. Raises InvalidRequestError."""
    if not is_set(raw):
        return ""
    try:
        return _checked(_TEXT.decode(raw), place)
    except DECODE_ERRORS:
        raise _wrong(place, "a string") from None


def _list(raw: msgspec.Raw, place: str) -> list[str]:
    """Tags: an array of strings, or one string with commas between. Raises InvalidRequestError."""
    if not is_set(raw):
        return []
    try:
        if _first(raw) == b'"':
            return [_checked(tag, place) for tag in _TEXT.decode(raw).split(",")]
        return [_checked(tag, place) for tag in _TEXTS.decode(raw)]
    except DECODE_ERRORS:
        raise _wrong(place, "an array of strings") from None


def _checked(text: str, place: str) -> str:
    """A name as budgets compare it. Raises InvalidRequestError."""
    name = text.strip()
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    if len(name) > MAX_SUBJECT_CHARS or not name.isprintable() or "`" in name or name == "*":
        raise _wrong(
            place,
            f"at most {MAX_SUBJECT_CHARS} printable characters, without backticks, and not '*'",
        )
    return name


def _checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(filter(None, tags)))
    if len(found) > MAX_TAGS:
        raise InvalidRequestError(
            f"the request has {len(found)} tags, with those of its key; send {MAX_TAGS} at most",
            code="too_many_tags",
            param="tags",
        )
    return found


def _given(headers: HeaderMap, names: Sequence[bytes]) -> Iterator[tuple[str, str]]:
    """Trusted headers that a request has, with their values. Raises InvalidRequestError."""
    for name in names:
        if (value := headers.get(name)) is not None:
            try:
                yield name.decode(), value.decode()
            except UnicodeDecodeError:
                raise _wrong(name.decode(), "text in UTF-8") from None


def _first(raw: msgspec.Raw) -> bytes:
    """What kind of value it is."""
    return bytes(memoryview(raw)[:1])


def _lowered(names: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(name.lower().encode() for name in names)


def _wrong(place: str, wanted: str) -> InvalidRequestError:
    return InvalidRequestError(f"{place!r} must be {wanted}", code="invalid_name", param=place)

"""Removes secrets from captured content, and shortens content to a size limit.

Works on decoded JSON values, so the result is always valid JSON. Redaction comes before shortening:
truncation must never hide a secret from its pattern. No I/O, no state.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from spanledger.wires.fields import JsonValue

TAIL = 8192
"""Characters dropped after an early truncation: a secret split by it lies within them."""


class Rule(NamedTuple):
    """One kind of secret.

    Attributes:
        kind: the word in the marker, `[REDACTED:kind]`.
        hints: the pattern can only match if one of these is in the text; a cheap first check.
        pattern: no nested quantifiers, so it runs in linear time on hostile text.
        check: a further test of the match, such as a check digit.
    """

    kind: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    check: Callable[[str], bool] | None = None


def luhn_valid(text: str) -> bool:
    """Whether the digits in a text pass the check-digit test of payment cards."""
    digits = [int(c) for c in text if c.isdecimal()]
    doubled = [d * 2 - 9 if d > 4 else d * 2 for d in digits[-2::-2]]
    return 13 <= len(digits) <= 19 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def iban_valid(text: str) -> bool:
    """Whether a text passes the check-digit test of bank account numbers (ISO 13616)."""
    plain = text.replace(" ", "").upper()
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def _phone_length(text: str) -> bool:
    return 8 <= sum(c.isdecimal() for c in text) <= 15


_EDGE = r"(?<![A-Za-z0-9])"
RULES: tuple[Rule, ...] = (
    Rule(
        "private_key",
        ("-----BEGIN",),
        # A single hyphen does not end it: encrypted keys begin with headers such as `Proc-Type:`.
        re.compile(
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:-?[^-])*(?:-----END [A-Z ]{0,40}-----)?"
        ),
    ),
    Rule(
        "jwt",
        ("eyJ",),
        re.compile(_EDGE + r"eyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]*)?", re.ASCII),
    ),
    Rule(
        "bearer_token",
        ("earer", "EARER"),
        re.compile(r"\b(?i:bearer)[ \t]+[A-Za-z0-9._~+/=-]{8,}"),
    ),
    Rule(
        "api_key",
        ("sk-", "sk_", "pk_", "rk_", "slk_", "AKIA", "ASIA", "gh", "xox", "AIza", "hf_", "glpat-"),
        re.compile(
            _EDGE + r"(?:(?:sk|pk|rk)[-_][\w-]{16,}|slk_[\w-]{8,}|(?:AKIA|ASIA)[A-Z0-9]{16}"
            r"|gh[oprsu]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|xox[a-z]-[\w-]{10,}"
            r"|AIza[\w-]{30,}|hf_[A-Za-z0-9]{20,}|glpat-[\w-]{16,})",
            re.ASCII,
        ),
    ),
    Rule(
        "email",
        ("@",),
        re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"),
    ),
    Rule(
        "iban",
        (),
        re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b", re.ASCII),
        iban_valid,
    ),
    Rule(
        "card",
        (),
        re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)", re.ASCII),
        luhn_valid,
    ),
    # Only numbers marked as phone numbers (a plus, or a bracketed area code): a bare run of digits
    # is as often an order number, and a trace full of markers helps nobody.
    Rule(
        "phone",
        ("+", "("),
        re.compile(
            r"(?<![\w+])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?|\(\d{2,5}\)[ .-]?)"
            r"\d{1,4}(?:[ .-]?\d{1,4}){1,5}(?!\d)",
            re.ASCII,
        ),
        _phone_length,
    ),
)

_DATA_URL = re.compile(
    r"data:([\w.+-]{1,64}/[\w.+-]{1,64})?[\w;=.+-]{0,128};base64,[\w+/=-]*", re.ASCII
)


def redact_text(text: str) -> str:
    """Replace every secret in a text with `[REDACTED:kind]`."""
    for rule in RULES:
        if not rule.hints or any(hint in text for hint in rule.hints):
            text = rule.pattern.sub(lambda match, rule=rule: _marked(match, rule), text)  # type: ignore[misc]  # the default binds the loop's rule
    return text


def _marked(match: re.Match[str], rule: Rule) -> str:
    found = match.group()
    if rule.check is not None and not rule.check(found):
        return found
    return f"[REDACTED:{rule.kind}]"


def _data_url_marker(match: re.Match[str]) -> str:
    return f"[data URL {match.group(1) or 'text/plain'}, {len(match.group())} bytes]"


def clean(value: JsonValue, *, redact: bool, max_chars: int) -> JsonValue:
    """A copy of a JSON value without data URLs, and without secrets when `redact` is set.

    Text longer than `max_chars` is truncated to bound the work. Numbers long enough to be a card or
    an account number are checked as text.
    """
    match value:
        case str():
            return _clean_text(value, redact=redact, max_chars=max_chars)
        case dict():
            return {
                _clean_text(str(key), redact=redact, max_chars=max_chars): clean(
                    item, redact=redact, max_chars=max_chars
                )
                for key, item in value.items()
            }
        case list():
            return [clean(item, redact=redact, max_chars=max_chars) for item in value]
        case int() if redact and abs(value) >= 10**12:
            text = str(value)
            masked = redact_text(text)
            return value if masked == text else masked
        case _:
            return value


def _clean_text(text: str, *, redact: bool, max_chars: int) -> str:
    if "base64," in text:
        text = _DATA_URL.sub(_data_url_marker, text)
    size = len(text)
    early_cut = size > max_chars + TAIL
    if early_cut:
        text = text[: max_chars + TAIL]
    if redact:
        text = redact_text(text)
    if early_cut:
        text = f"{text[: max(0, len(text) - TAIL)]}…[truncated, {size} characters]"
    return text


def fit(items: list[JsonValue], max_bytes: int, note: Callable[[str], JsonValue]) -> bytes:
    """Encode a list as JSON of at most `max_bytes`: shorten long strings first, then leave items out
    of the middle and put the item that `note` makes in their place."""
    encoded = msgspec.json.encode(items)
    if len(encoded) <= max_bytes:
        return encoded
    size = len(encoded)
    longest = max_bytes // 2
    while longest >= 32:
        encoded = msgspec.json.encode([_shorten(item, longest) for item in items])
        if len(encoded) <= max_bytes:
            return encoded
        longest //= 2
    return _without_middle([_shorten(item, 32) for item in items], max_bytes, size, note)


def _shorten(value: JsonValue, longest: int) -> JsonValue:
    match value:
        case str() if len(value) > longest:
            return f"{value[:longest]}…[truncated, {len(value)} characters]"
        case dict():
            return {_shorten(k, longest): _shorten(v, longest) for k, v in value.items()}
        case list():
            return [_shorten(item, longest) for item in value]
        case _:
            return value


def _without_middle(
    items: list[JsonValue], max_bytes: int, size: int, note: Callable[[str], JsonValue]
) -> bytes:
    """The first item, a note, and as many of the last items as fit; or only the note."""
    sizes = [len(msgspec.json.encode(item)) + 1 for item in items]
    room = max_bytes - len(msgspec.json.encode([note(f"{len(items)} left out, {size} bytes")])) - 8
    for head in (items[:1], []):
        left = room - sum(sizes[: len(head)])
        tail = _fitting_tail(sizes[len(head) :], left)
        if left >= 0 and (head or tail):
            dropped = len(items) - len(head) - tail
            kept = items[len(items) - tail :] if tail else []
            return msgspec.json.encode([*head, note(f"{dropped} left out, {size} bytes"), *kept])
    return msgspec.json.encode([note(f"{len(items)} left out, {size} bytes")])


def _fitting_tail(sizes: Iterable[int], room: int) -> int:
    """How many of the last items fit."""
    count = 0
    for size in reversed(list(sizes)):
        room -= size
        if room < 0:
            break
        count += 1
    return count

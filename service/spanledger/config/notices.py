"""The section `notices`: who gets notices on budgets, and of which steps."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator

from spanledger.budgets.scopes import EVERYBODY, SCOPE_NAMES
from spanledger.config.fields import HeaderName, Name, Ours, Seconds, nearest

MAX_DESTINATIONS = 32
MAX_SECRETS = 4
MAX_RECIPIENTS = 50
SECRET_PREFIX = "whsec_"  # noqa: S105 - it tells what a text is
SECRET_BYTES = range(24, 65)
"""As Standard Webhooks has it."""
FORECAST, RENEWED = "forecast", "renewed"
_WORDS = (FORECAST, RENEWED)
_ADDRESS = re.compile(r"[!-?A-~]+@[!-?A-~]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")
PORTS = {"starttls": 587, "tls": 465, "none": 25}


def _postable(value: SecretStr) -> SecretStr:
    """Nothing of it is shown: the path of a webhook is often all that protects it."""
    text = value.get_secret_value()
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError("must be an http(s) URL, like https://example.com/hook")
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "must not contain a user or a password; send them as a header: {Authorization: …}"
        )
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be percent-encoded: only printable ASCII, without spaces")
    return value


def _signing(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith(SECRET_PREFIX) or len(key) not in SECRET_BYTES:
        raise ValueError(
            f"must be {SECRET_PREFIX} and {SECRET_BYTES.start} to {SECRET_BYTES.stop - 1} random bytes"
            f' in base64; make one with: echo "{SECRET_PREFIX}$(openssl rand -base64 32)"'
        )
    return value


def _few(value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    if len(value) > MAX_SECRETS:
        raise ValueError(f"there may be {MAX_SECRETS} secrets; remove the oldest")
    return value


def _header_value(value: SecretStr) -> SecretStr:
    if not _HEADER_VALUE.fullmatch(value.get_secret_value()):
        raise ValueError("must be printable ASCII")
    return value


def _mail_address(value: str) -> str:
    if not _ADDRESS.fullmatch(value):
        raise ValueError(f"{value[:64]!r} is not a mail address; write it like ops@example.com")
    return value


def _some(value: tuple[str, ...]) -> tuple[str, ...]:
    if not 1 <= len(value) <= MAX_RECIPIENTS:
        raise ValueError(f"must have 1 to {MAX_RECIPIENTS} addresses")
    return value


def _step(value: Any) -> Any:
    if isinstance(value, str) and value not in _WORDS:
        value = value.removesuffix("%")
        if not value.isdecimal():
            raise ValueError(
                f"{value[:64]!r} is not a step; write a percentage from 1 to 100, {FORECAST} or {RENEWED}"
                + nearest(value, _WORDS)
            )
        value = int(value)
    if isinstance(value, bool) or (isinstance(value, int) and not 1 <= value <= 100):
        raise ValueError("a percentage is a whole number from 1 to 100")
    if not isinstance(value, int | str):
        raise ValueError(f"write a percentage from 1 to 100, {FORECAST} or {RENEWED}")
    return str(value)


def _scope(value: str) -> str:
    """A scope, or several with commas, in the order in which budgets have them."""
    names = [name.strip() for name in value.split(",")]
    for name in names:
        if name not in (*SCOPE_NAMES, EVERYBODY) or (name == EVERYBODY and len(names) > 1):
            known = ", ".join((*SCOPE_NAMES, EVERYBODY))
            raise ValueError(
                f"{name[:64]!r} is not a scope{nearest(name, SCOPE_NAMES) or f'; there are {known}'}"
            )
    return ",".join(sorted(names, key=(*SCOPE_NAMES, EVERYBODY).index))


Postable = Annotated[SecretStr, AfterValidator(_postable)]
SigningSecret = Annotated[SecretStr, AfterValidator(_signing)]
HeaderValue = Annotated[SecretStr, AfterValidator(_header_value)]
MailAddress = Annotated[str, AfterValidator(_mail_address)]


class NoticeDestination(Ours):
    """What every entry of `notices.destinations` has."""

    name: Annotated[Name, Field(max_length=64)] = Field(description="Unique name.")
    kind: str = Field(description="`webhook`, `slack` or `mail`.")
    budgets: tuple[Name, ...] = Field((), description="Only of these budgets; default: of all.")
    scopes: tuple[str, ...] = Field(
        (),
        description="Only of budgets with these scopes, such as `customer` or `customer,model`;"
        " `global` is for those without a subject. Default: all.",
    )
    steps: tuple[str, ...] | None = Field(
        None,
        description=f"Percentages of the limit, `{FORECAST}` (it will run out before its period ends)"
        f" and `{RENEWED}`. Default: each budget's `thresholds`, 100 and both.",
    )
    timeout_s: Annotated[Seconds, Field(le=60)] = Field(
        10.0, description="Seconds that an attempt to send may take."
    )

    @field_validator("scopes", mode="after")
    @classmethod
    def _known_scopes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_scope, value))

    @field_validator("steps", mode="before")
    @classmethod
    def _known_steps(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        if not value:
            raise ValueError("must not be empty; leave it out for the steps of each budget")
        return tuple(map(_step, value))


class WebhookDestination(NoticeDestination):
    """A destination of kind `webhook`."""

    KIND: ClassVar[str] = "webhook"

    kind: Literal["webhook"]
    url: Postable = Field(description="Where to send; redirects are not followed.")
    secrets: Annotated[tuple[SigningSecret, ...], AfterValidator(_few)] = Field(
        (),
        description="Secrets that sign each message (`whsec_…`), the newest first; one signature each.",
    )
    signed: bool = Field(
        True, description="`false`: without secrets, for receivers that need none."
    )
    format: Literal["standard", "cloudevents"] = Field(
        "standard", description="Standard Webhooks' form, or CloudEvents 1.0 as JSON."
    )
    headers: dict[HeaderName, HeaderValue] = Field(
        {}, description="Further headers, such as `Authorization`."
    )


class SlackDestination(NoticeDestination):
    """A destination of kind `slack`."""

    KIND: ClassVar[str] = "slack"

    kind: Literal["slack"]
    url: Postable = Field(description="URL of an incoming webhook.")


class MailDestination(NoticeDestination):
    """A destination of kind `mail`."""

    KIND: ClassVar[str] = "mail"

    kind: Literal["mail"]
    server: Annotated[Name, Field(max_length=253)] = Field(description="Host of the SMTP server.")
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="Its port; default: 587 with `starttls`, 465 with `tls`, 25 with `none`."
    )
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="How the connection is encrypted."
    )
    username: Annotated[str, Field(max_length=256)] | None = Field(None, description="To log in.")
    password: SecretStr | None = Field(None, description="To log in.")
    sender: MailAddress = Field(description="Address that mails come from.")
    to: Annotated[tuple[MailAddress, ...], AfterValidator(_some)] = Field(
        description="Addresses that they go to."
    )

    @property
    def whole_port(self) -> int:
        """The port, also if none is given."""
        return self.port or PORTS[self.security]


AnyDestination = WebhookDestination | SlackDestination | MailDestination
KINDS: dict[str, type[AnyDestination]] = {
    model.KIND: model for model in (WebhookDestination, SlackDestination, MailDestination)
}


class NoticeSettings(Ours):
    """The section."""

    destinations: tuple[AnyDestination, ...] = Field((), description="Who is told.")
    variables: frozenset[str] = Field(frozenset(), exclude=True)
    """The variables of the environment that the section refers to."""


def mistakes_of(destination: AnyDestination) -> list[tuple[str, str]]:
    """What is wrong with a destination as a whole, as far as one field alone does not say it."""
    if isinstance(destination, WebhookDestination):
        if destination.signed and not destination.secrets:
            return [("secrets", _NO_SECRET)]
        taken = sorted(name for name in destination.headers if name.lower() in _OURS)
        if taken:
            return [(f"headers.{taken[0]}", "is set by spanledger; remove it")]
        if destination.secrets and not destination.signed:
            return [("signed", "is false, but there are secrets; keep one of the two")]
    if isinstance(destination, MailDestination):
        if (destination.username is None) != (destination.password is None):
            return [("username", "username and password belong together; give both or neither")]
        if destination.password is not None and destination.security == "none":
            return [("security", "none would send the password unencrypted; write starttls or tls")]
    return []


_OURS = frozenset(
    {
        *(
            "host",
            "content-length",
            "content-type",
            "transfer-encoding",
            "connection",
            "user-agent",
        ),
        *("webhook-id", "webhook-timestamp", "webhook-signature"),
    }
)
"""Headers that a message has anyway."""
_NO_SECRET = (
    "add a secret, so that receivers can check where a message is from, or write signed: false; make"
    f' one with: echo "{SECRET_PREFIX}$(openssl rand -base64 32)"'
)

"""The forms that notices are sent in: Standard Webhooks, CloudEvents 1.0, Slack. Pure.

The bytes of a notice are the same at each attempt.

Sources: github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md; CloudEvents 1.0.2, JSON event
format and HTTP binding in structured mode; Slack's reference of incoming webhooks and of `mrkdwn`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence

from spanledger.config.notices import SECRET_PREFIX
from spanledger.ledger.notices import Notice
from spanledger.notices.facts import found_at, sentence, type_of

CLOUD_TYPE = "spanledger."
"""Before the type of a notice, in CloudEvents."""


def standard(notice: Notice) -> bytes:
    """A notice as Standard Webhooks recommends it."""
    body = {
        "type": type_of(notice.step),
        "timestamp": found_at(notice),
        "data": json.loads(notice.data),
    }
    return json.dumps(body, ensure_ascii=False).encode()


def cloud_event(notice: Notice, ledger_id: str) -> bytes:
    """A notice as a CloudEvent; source and id together are unique."""
    data = json.loads(notice.data)
    body = {
        "specversion": "1.0",
        "id": notice.id,
        "source": f"urn:uuid:{ledger_id}",
        "type": CLOUD_TYPE + type_of(notice.step),
        "time": found_at(notice),
        "datacontenttype": "application/json",
        "data": data,
    }
    subject = data.get("budget") if not data.get("subjects") else data["subject"]
    if subject:
        body["subject"] = subject
    return json.dumps(body, ensure_ascii=False).encode()


def signatures(secrets: Sequence[str], id_: str, timestamp_s: int, body: bytes) -> str:
    """The header `webhook-signature`: one signature for each secret."""
    signed = f"{id_}.{timestamp_s}.".encode() + body
    return " ".join("v1," + _signature(secret, signed) for secret in secrets)


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def slack(notices: Sequence[Notice]) -> bytes:
    """Notices as one message of an incoming webhook."""
    lines = [sentence(notice) for notice in notices]
    text = "\n".join(lines if len(lines) == 1 else [f"• {line}" for line in lines])
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, entity)
    return json.dumps({"text": text}, ensure_ascii=False).encode()

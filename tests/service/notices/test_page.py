"""The receiver of docs/notices.md, as a reader would copy it."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from spanledger.notices.messages import signatures

PAGE = Path(__file__).resolve().parents[3] / "docs" / "notices.md"
NEW, OLD, OTHER = ("whsec_" + 8 * letters for letters in ("AbCd", "EfGh", "IjKl"))
BODY = '{"name": "Ünïté"}'.encode()


@pytest.fixture(scope="module")
def verify() -> Any:
    """The function of the page."""
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    return names["verify"]


def headers(*secrets: str, ago_s: int = 0) -> dict[str, str]:
    """What a message has that was sent so long ago."""
    timestamp = int(time.time()) - ago_s
    return {
        "webhook-id": "notice_1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signatures(secrets, "notice_1", timestamp, BODY),
    }


def test_it_accepts_ours(verify: Any) -> None:
    """Also while a secret is changed, on whichever side first."""
    assert verify([NEW], headers(NEW), BODY)
    assert verify([OLD], headers(NEW, OLD), BODY)
    assert verify([NEW, OLD], headers(OLD), BODY)


def test_it_refuses_all_others(verify: Any) -> None:
    """Another secret, body, id or time."""
    assert not verify([OTHER], headers(NEW, OLD), BODY)
    assert not verify([NEW], headers(NEW), BODY + b" ")
    assert not verify([NEW], headers(NEW) | {"webhook-id": "notice_2"}, BODY)
    assert not verify([NEW], headers(NEW, ago_s=600), BODY)


def test_the_vector_of_the_specification() -> None:
    """The signature that the specification's own libraries test with."""
    found = signatures(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

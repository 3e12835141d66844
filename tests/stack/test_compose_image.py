"""The image of our services: it copies what exists, everything is locked by hash, nobody is root."""

from __future__ import annotations

import re
from fnmatch import fnmatch

from tests.stack.composition import ROOT

THROUGH_CA = re.compile(
    r"RUN (?:--mount=\S+ +)*--mount=type=secret,id=ca +"
    r"if \[ -s /run/secrets/ca \]; then export SSL_CERT_FILE=/run/secrets/ca; fi +&& "
)


def test_the_image_copies_what_exists_and_nothing_else_is_sent() -> None:
    """Each COPY has its source, and .dockerignore lets exactly those through."""
    dockerfile = (ROOT / "service" / "Dockerfile").read_text(encoding="utf-8")
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    copies = [
        line.split()[1:-1]
        for line in dockerfile.replace("\\\n", " ").splitlines()
        if line.startswith("COPY ") and "--from" not in line
    ]
    sources = [source for copy in copies for source in copy]

    assert "*" in lines
    assert [s for s in sources if not (ROOT / s).exists()] == []
    for source in sources:
        assert any(source == a or source.startswith(f"{a}/") for a in allowed), source
    for entry in allowed:
        assert any(fnmatch(s, f"{entry}*") for s in sources), entry


def test_the_image_is_locked_and_not_root() -> None:
    """Nothing is installed without a hash, and the image's user is the volumes' owner."""
    text = (ROOT / "service" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    code = [line for line in text.splitlines() if not line.startswith("#")]
    runs = [line for line in code if line.startswith("RUN ")]
    installs = [run for run in runs if re.search(r"\b(?:pip|uv|apt|apt-get|curl|wget)\b", run)]

    assert {line for line in code if line.startswith("FROM")} == {
        "FROM python:${PYTHON_VERSION}-slim-trixie AS build",
        "FROM python:${PYTHON_VERSION}-slim-trixie",
    }
    assert [line for line in code if line.startswith("USER")] == ["USER 10001:10001"]
    assert 'ENTRYPOINT ["spanledger"]' in code
    for line in installs:
        if " uv sync " in line:
            assert "--frozen" in line
        elif " uv build " in line:
            assert "--require-hashes" in line
        else:
            assert line.endswith("&& python tools/get_uv.py /usr/local/bin/uv")
    # Whatever comes from the network comes through the company's authority where there is one.
    assert [line for line in installs if not THROUGH_CA.match(line)] == []
    locked = (ROOT / "service" / "build-requirements.txt").read_text(encoding="utf-8")
    entries = re.findall(r"^[a-z][\w-]*==.+?(?=^\w|\Z)", locked, flags=re.MULTILINE | re.DOTALL)
    assert entries
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []

"""A page as a browser shows it: headless Chromium with a fresh profile."""

from __future__ import annotations

import html
import os
import re
import subprocess
import tempfile

import pytest
from tools.screenshots import MissingError, find_browser

DRAWN_MS = 20_000
LIMIT_S = 180.0


class Page:
    """The content of a page after its scripts have run."""

    def __init__(self, markup: str) -> None:
        self.markup = markup

    @property
    def links(self) -> list[str]:
        """Its target."""
        return [
            html.unescape(found) for found in re.findall(r'<a [^>]*href="([^"]*)"', self.markup)
        ]

    @property
    def text(self) -> str:
        """Its visible text, and a little more."""
        bare = re.sub(r"<(script|style)\b.*?</\1>", " ", self.markup, flags=re.DOTALL)
        return html.unescape(re.sub(r"<[^>]+>", " ", bare))


def needs_browser() -> None:
    """Skip without Chromium."""
    try:
        find_browser()
    except MissingError as missing:
        pytest.skip(str(missing))


def opened(url: str) -> Page:
    """A page, opened in a fresh profile."""
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [
                find_browser(),
                "--headless",
                "--disable-gpu",
                "--disable-quic",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
                # A browser in a container is root, which its sandbox does not take.
                *(["--no-sandbox"] if os.geteuid() == 0 else []),
                "--window-size=1600,2400",
                f"--user-data-dir={profile}",
                f"--virtual-time-budget={DRAWN_MS}",
                "--dump-dom",
                url,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
    assert done.returncode == 0, done.stderr[-500:]
    return Page(done.stdout)

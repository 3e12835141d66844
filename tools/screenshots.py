"""Save a screenshot of every dashboard of a running Grafana to docs/images/, with headless Chromium.

    make screenshots GRAFANA_URL=http://127.0.0.1:3000 [SINCE=now-1h]

Start the stack and let it run for a while first, so there is data to show. Without Grafana or
Chromium, the command reports which one is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DASHBOARDS = ROOT / "grafana" / "dashboards"
IMAGES = ROOT / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WIDTH = 1600
CELL = 38
"""Height of a step of Grafana's grid in pixels: 30 and a gap of 8."""
HEAD = 140
"""Height of the page above the panels, in pixels."""
DRAWN_MS = 30_000
"""How long a page may take to draw all its panels."""
LIMIT_S = 120


def main() -> None:
    """Take the screenshots, or report what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("url", nargs="?", default="", help="Grafana's URL")
    parser.add_argument("--since", default="now-1h", help="start of the time range")
    parser.add_argument("--theme", default="light", choices=["light", "dark"])
    parser.add_argument("--output", type=Path, default=IMAGES)
    chosen = parser.parse_args()
    try:
        url = checked(chosen.url)
        browser = find_browser()
        chosen.output.mkdir(parents=True, exist_ok=True)
        for path in sorted(DASHBOARDS.glob("*.json")):
            picture = chosen.output / f"{path.stem}.png"
            query = f"kiosk&from={chosen.since}&to=now&theme={chosen.theme}"
            take(browser, f"{url}/d/{path.stem}?{query}", height(path), picture)
            print(picture)
    except MissingError as missing:
        print(f"no screenshots: {missing}", file=sys.stderr)
        raise SystemExit(1) from None


class MissingError(Exception):
    """Something that screenshots need is missing."""


def checked(url: str) -> str:
    """The URL without a trailing slash, if a Grafana answers there."""
    if not url:
        raise MissingError("set Grafana's URL: make screenshots GRAFANA_URL=http://127.0.0.1:3000")
    if not url.startswith(("http://", "https://")):
        raise MissingError(f"{url} is not an HTTP URL")
    url = url.rstrip("/")
    try:
        with urllib.request.urlopen(f"{url}/api/health", timeout=10) as answer:  # noqa: S310 - its scheme is checked above
            json.load(answer)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise MissingError(f"no Grafana answers at {url} ({error}); `make up` starts one") from None
    return url


def find_browser() -> str:
    """Chromium: the variable CHROMIUM, or the first of the usual names on PATH."""
    wanted = (os.environ["CHROMIUM"],) if os.environ.get("CHROMIUM") else BROWSERS
    for name in wanted:
        if found := shutil.which(name):
            return found
    raise MissingError(f"Chromium not found ({', '.join(wanted)}); set CHROMIUM to its path")


def height(path: Path) -> int:
    """The height of the whole dashboard; panels outside the view are not drawn."""
    panels = json.loads(path.read_text("utf-8"))["panels"]
    bottom: int = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    return HEAD + CELL * bottom


def take(
    browser: str, url: str, pixels: int, picture: Path, *, width: int = WIDTH, scale: float = 1.0
) -> None:
    """Take one screenshot, with a fresh profile and without background requests."""
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [
                browser,
                "--headless=new",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
                # In a container the browser runs as root, which its sandbox refuses.
                *(["--no-sandbox"] if os.geteuid() == 0 else []),
                "--hide-scrollbars",
                f"--user-data-dir={profile}",
                f"--window-size={width},{pixels}",
                f"--force-device-scale-factor={scale}",
                f"--virtual-time-budget={DRAWN_MS}",
                f"--screenshot={picture}",
                url,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
    if done.returncode or not picture.is_file():
        raise MissingError(f"{browser} failed on {url}: {done.stderr.strip()[-500:]}")


if __name__ == "__main__":
    main()

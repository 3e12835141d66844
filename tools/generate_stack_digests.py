"""Write digests of the services' files into the compose files, and versions into the layers, as defaults.

Runs after the generators of those files. `--check` writes nothing and fails if a digest is out of date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import toolchain  # noqa: E402 - found by the line above
from tools.stack_files import DEMO, REAL, digests  # noqa: E402 - found by the line above

GATEWAYS = {
    "docker-compose.yml": DEMO,
    "compose/postgres.yml": DEMO,
    "compose/scale.yml": DEMO,
    "compose/real-providers.yml": REAL,
}
"""The configuration that the gateway reads, by compose file."""


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with each variable's default replaced."""
    for name, value in values.items():
        text = re.sub(rf"\$\{{{name}:-[\w.]*\}}", f"${{{name}:-{value}}}", text)
    return text


def main() -> None:
    """Write the files, or with `--check` compare them."""
    wrong = []
    for name, config in GATEWAYS.items():
        path = ROOT / name
        before = path.read_text(encoding="utf-8")
        after = filled(before, {**digests(ROOT, config), **toolchain.pins()})
        if after == before:
            continue
        if "--check" in sys.argv[1:]:
            wrong.append(name)
        else:
            path.write_text(after, encoding="utf-8")
    if wrong:
        raise SystemExit(f"{', '.join(wrong)}: out of date; run `make generate` and commit it")


if __name__ == "__main__":
    main()

"""Write grafana/dashboards/*.json from grafana/src.

`--check` writes nothing and fails if a file is out of date or belongs to no dashboard.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "grafana" / "dashboards"
sys.path.insert(0, str(ROOT))

from grafana.src.board import render  # noqa: E402 - found by the line above
from grafana.src.boards import BOARDS  # noqa: E402 - found by the line above it


def main() -> None:
    """Write the files, or with `--check` compare them."""
    wanted = {f"{board.slug}.json": render(board) for board in BOARDS}
    found = {path.name: path for path in sorted(TARGET.glob("*.json"))}
    if "--check" in sys.argv[1:]:
        wrong = [
            name
            for name in sorted({*wanted, *found})
            if name not in found or found[name].read_text("utf-8") != wanted.get(name)
        ]
        if wrong:
            listed = ", ".join(wrong)
            raise SystemExit(f"{listed}: out of date; run `make generate` and commit it")
        return
    TARGET.mkdir(exist_ok=True)
    for name, text in wanted.items():
        (TARGET / name).write_text(text, encoding="utf-8")
    for name in set(found) - set(wanted):
        found[name].unlink()


if __name__ == "__main__":
    main()

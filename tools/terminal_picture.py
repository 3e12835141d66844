"""A picture of what our command prints on a terminal: run on one, and drawn as SVG.

Nothing is loaded by the picture: text stays text, in the reader's own monospaced font.
"""

from __future__ import annotations

import fcntl
import math
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

COLUMNS = 128
PROMPT = "$"
THEME = TerminalTheme(
    (13, 17, 23),
    (230, 237, 243),
    [
        (72, 79, 88),
        (255, 123, 114),
        (63, 185, 80),
        (210, 153, 34),
        (88, 166, 255),
        (188, 140, 255),
        (57, 197, 207),
        (177, 186, 196),
    ],
    [
        (139, 148, 158),
        (255, 161, 152),
        (86, 211, 100),
        (227, 179, 65),
        (121, 192, 255),
        (210, 168, 255),
        (86, 212, 221),
        (255, 255, 255),
    ],
)
LINE_PIXELS = 24.4
"""What rich gives a line at its size of 20 pixels; a character has 12.2."""
MARGIN = 20
FRAME = """<svg xmlns="http://www.w3.org/2000/svg" width="WIDTH" height="HEIGHT" viewBox="0 0 WIDTH HEIGHT"
  role="img">
<style>
.{unique_id}-matrix {{ font: 20px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace }}
{styles}
</style>
<defs>{lines}</defs>
<rect width="WIDTH" height="HEIGHT" rx="10" fill="#0d1117"/>
<g transform="translate(MARGIN, MARGIN)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def drawn(*arguments: str, hidden: tuple[str, ...] = ()) -> str:
    """SVG of a prompt, our command and what it prints; `hidden` are arguments of no interest."""
    printed = on_terminal(*arguments, *hidden).rstrip()
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        screen = Console(width=COLUMNS, record=True, file=nowhere)
        screen.print(Text(" ".join((PROMPT, "spanledger", *arguments))))
        screen.print(Text.from_ansi(printed))
    size = {
        "WIDTH": math.ceil(COLUMNS * LINE_PIXELS / 2) + 2 * MARGIN,
        "HEIGHT": math.ceil((printed.count("\n") + 2) * LINE_PIXELS) + 2 * MARGIN,
        "MARGIN": MARGIN,
    }
    frame = FRAME
    for name, pixels in size.items():
        frame = frame.replace(name, str(pixels))
    return screen.export_svg(theme=THEME, code_format=frame, unique_id="terminal")


def on_terminal(*arguments: str) -> str:
    """What our command prints on a terminal of `COLUMNS`."""
    ours_end, its_end = pty.openpty()
    fcntl.ioctl(its_end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    child = subprocess.Popen(
        [sys.executable, "-m", "spanledger", *arguments],
        stdout=its_end,
        env={**kept, "TERM": "xterm-256color"},
    )
    os.close(its_end)
    printed = bytearray()
    try:
        while piece := os.read(ours_end, 65_536):
            printed += piece
    except OSError:
        pass  # How Linux says that the other end is closed.
    finally:
        os.close(ours_end)
    if child.wait():
        raise RuntimeError(printed.decode())
    return printed.decode().replace("\r\n", "\n")

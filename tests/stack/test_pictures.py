"""The README's pictures: what a command prints is what its picture shows."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from tools.terminal_picture import drawn, on_terminal

SVG = "{http://www.w3.org/2000/svg}"


def test_the_picture_of_a_command_has_every_word_it_printed() -> None:
    """Nothing of the output is cut off or lost, and the command stands above it."""
    printed = re.sub(r"\x1b\[[0-9;]*m", "", on_terminal("trace", "--help"))
    picture = ET.fromstring(drawn("trace", "--help"))
    lines: dict[float, list[str]] = {}
    for text in picture.iter(f"{SVG}text"):
        lines.setdefault(float(text.attrib["y"]), []).append(text.text or "")
    shown = " ".join(" ".join(lines[y]) for y in sorted(lines)).replace("\xa0", " ")

    assert shown.split() == ["$", "spanledger", "trace", "--help", *printed.split()]
    assert max(lines) < float(picture.attrib["height"])


def test_the_picture_of_a_command_loads_nothing() -> None:
    """A page that shows it calls no other host; its one address is the name of SVG itself."""
    assert re.findall(r"https?://[^\"\s]+", drawn("trace", "--help")) == [SVG.strip("{}")]

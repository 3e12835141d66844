"""The grammar of directives: everything documented is accepted, everything else is rejected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanledger.sim.prompt import Recent
from spanledger.sim.scenarios import Board, Fault, Script, parse_script, split_model
from spanledger.sim.tokens import pieces, tokens, truncate


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("429", Script(Fault("status", 429))),
        ("429;retry_after=2.5", Script(Fault("status", 429, retry_after_s=2.5))),
        ("cut:5", Script(Fault("cut", after=5))),
        ("timeout!tokens:40", Script(Fault("timeout"), output_tokens=40)),
        ("slow:2.5", Script(slow=2.5)),
        ("huge", Script(Fault("huge", after=65))),
        ("content_filter", Script(Fault("content_filter"))),
        ("content_filter:3", Script(Fault("content_filter", after=3))),
        ("500!429", Script(Fault("status", 500))),
    ],
)
def test_directives(text: str, script: Script) -> None:
    """Directives mean what the module documents."""
    assert parse_script(text) == script


@pytest.mark.parametrize(
    "text",
    ["", "!", "cut", "cut:", "cut:x", "cut:٣", "299", "reset:3", "429:3", "slow:-1", "a" * 999],
)
def test_nonsense_is_refused(text: str) -> None:
    """An invalid directive raises, and the message says what is valid."""
    with pytest.raises(ValueError, match=r"directive|statuses|write a"):
        parse_script(text)


@given(st.text(max_size=300))
def test_no_text_crashes_the_parser(text: str) -> None:
    """Any text is a script or a ValueError."""
    try:
        parse_script(text)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - the point is that no other error is raised


def test_models() -> None:
    """Directives are split off a model's name; names that only look similar stay unchanged."""
    assert split_model("gpt-4o!cut:5") == ("gpt-4o", Script(Fault("cut", after=5)))
    assert split_model("sim-429") == ("sim-429", Script(Fault("status", 429)))
    assert split_model("sim-friendly") == ("sim-friendly", Script())
    assert split_model("ollama/llama3:8b") == ("ollama/llama3:8b", Script())


def test_a_storm_passes() -> None:
    """A fault for some seconds is active until then and not after."""
    now = 100.0
    board = Board(monotonic=lambda: now)
    board.add({"fault": 529, "for_seconds": 5})
    during = board.deal("openai", "any", 0.0)
    now = 104.9
    still = board.deal("openai", "any", 0.0)
    now = 105.0
    after = board.deal("openai", "any", 0.0)

    assert during.fault == still.fault == Fault("status", 529)
    assert after.fault is None


@given(st.text())
def test_pieces_are_the_text(text: str) -> None:
    """Splitting loses nothing, splits no character, and the counts add up."""
    cut = list(pieces(text))

    assert "".join(piece for piece, _ in cut) == text
    assert sum(added for _, added in cut) == tokens(text)
    assert all(len(piece.encode("utf-8", "surrogatepass")) <= 4 for piece, _ in cut)


@given(st.text(), st.integers(0, 50))
def test_truncation_keeps_to_the_limit(text: str, limit: int) -> None:
    """A truncated text is a prefix of the text within the limit."""
    kept = truncate(text, limit)

    assert text.startswith(kept)
    assert tokens(kept) <= limit


def test_memory_is_bounded() -> None:
    """The least recently used entry is evicted first."""
    recent: Recent[int] = Recent(2)
    recent.put(b"a", 1)
    recent.put(b"b", 2)
    recent.get(b"a")
    recent.put(b"c", 3)

    assert (recent.get(b"a"), recent.get(b"b"), recent.get(b"c")) == (1, None, 3)

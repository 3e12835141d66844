"""Every wire at deployments of every wire, whole and streamed: what its own client sees, and the bill.

The rows are ways through the gateway, the tests are what can happen on each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from spanledger.budgets.model import Budget
from spanledger.config import parse_config
from spanledger.sim.server import sim_in_thread
from tests.service.gateway import every_client as ask
from tests.service.gateway.endpoints import Row, Site
from tests.service.gateway.every_client import BROKEN, PATIENCE_S, RATE_LIMITED, TIMED_OUT, Ask
from tests.service.gateway.harness import wait_for
from tests.service.gateway.test_clients import Running
from tests.support.ledgers import store_at

IMPATIENCE_S = 0.5


@dataclass(frozen=True, slots=True)
class Way:
    """A route, and who asks it.

    Attributes:
        model: of its deployment.
        then: the model that takes over.
        end: how a complete answer ends, by the wire's own word.
        streams: whether this wire has streams.
        breaks_after: pieces of a stream before it breaks.
        uncounted: its input has images, whose tokens we can only estimate.
        free: it costs nothing, and reports no usage.
        serves: the only endpoint of the deployment; empty for all of its kind.
    """

    name: str
    ask: Ask
    model: str
    then: str
    end: str
    streams: bool = True
    breaks_after: int = 5
    uncounted: bool = False
    free: bool = False
    serves: str = ""

    @property
    def billed_as(self) -> str:
        """The model's name at the provider."""
        return self.model.partition("/")[2]


GPT, MINI, CODEX = "openai/gpt-4.1", "openai/gpt-4o-mini", "openai/gpt-5.1-codex"
SONNET, HAIKU = "anthropic/claude-sonnet-4-5", "anthropic/claude-haiku-4-5"
FLASH, LITE = "gemini/gemini-2.5-flash", "gemini/gemini-2.5-flash-lite"
LISTEN = "openai/gpt-4o-transcribe"
EMBED = "openai/text-embedding-3"
ON_CHAT = "/v1/chat/completions"
WAYS = (
    Way("chat", ask.chat, GPT, MINI, "stop"),
    Way("chat-over-messages", ask.chat, SONNET, MINI, "stop"),
    Way("chat-over-responses", ask.chat, CODEX, MINI, "stop"),
    Way("responses", ask.responses, GPT, MINI, "completed"),
    Way("responses-over-chat", ask.responses, GPT, MINI, "completed", serves=ON_CHAT),
    Way("responses-over-messages", ask.responses, SONNET, MINI, "completed"),
    Way("compact", ask.compact, GPT, MINI, "response.compaction", streams=False),
    Way("generate", ask.generate, LITE, FLASH, "STOP"),
    Way("generate-over-chat", ask.generate, GPT, LITE, "STOP", serves=ON_CHAT),
    Way("generate-over-messages", ask.generate, SONNET, LITE, "STOP"),
    Way("generate-over-responses", ask.generate, CODEX, LITE, "STOP"),
    Way("chat-at-google", ask.chat, LITE, MINI, "stop"),
    Way("messages", ask.messages, SONNET, HAIKU, "end_turn"),
    Way("messages-over-chat", ask.messages, GPT, HAIKU, "end_turn", serves=ON_CHAT),
    Way("messages-over-responses", ask.messages, CODEX, HAIKU, "end_turn"),
    Way(
        "completions",
        ask.completions,
        "openai/gpt-3.5-turbo-instruct",
        "openai/babbage-002",
        "stop",
    ),
    Way(
        "images",
        ask.images,
        "openai/gpt-image-1",
        "openai/gpt-image-1",
        "completed",
        breaks_after=2,
    ),
    Way(
        "edits",
        ask.edits,
        "openai/gpt-image-1",
        "openai/gpt-image-1",
        "completed",
        breaks_after=2,
        uncounted=True,
    ),
    Way("transcriptions", ask.transcriptions, LISTEN, LISTEN, "done"),
    Way("speech", ask.speech, "openai/tts-1", "openai/tts-1-hd", "audio/mpeg", streams=False),
    Way("embeddings", ask.embeddings, f"{EMBED}-small", f"{EMBED}-large", "list", streams=False),
    Way(
        "moderations",
        ask.moderations,
        "openai/omni-moderation-latest",
        "openai/omni-moderation-latest",
        "passed",
        streams=False,
        free=True,
    ),
    Way(
        "rerank",
        ask.rerank,
        "jina_ai/jina-reranker-v2-base-multilingual",
        "cohere/rerank-v3.5",
        "2",
        streams=False,
    ),
)


def forms(ways: Iterable[Way]) -> list[Any]:
    """Whole, and streamed where the wire has that."""
    return [
        pytest.param(way, stream, id=f"{way.name}-{'streamed' if stream else 'whole'}")
        for way in ways
        for stream in ((False, True) if way.streams else (False,))
    ]


FORMS, PAID_FORMS = forms(WAYS), forms(way for way in WAYS if not way.free)
STREAMS = [pytest.param(way, id=way.name) for way in WAYS if way.streams]
PAID = [pytest.param(way, id=way.name) for way in WAYS if not way.free]
ALL = [pytest.param(way, id=way.name) for way in WAYS]


BASES = {"anthropic": "", "gemini": "/v1beta/openai"}


def entry(route: str, model: str, sim_url: str, serves: str = "") -> dict[str, Any]:
    """A deployment at the simulator."""
    base = f"{sim_url}{BASES.get(model.partition('/')[0], '/v1')}"
    info: dict[str, Any] = {"id": f"d-{route}"}
    if serves:
        info["supported_endpoints"] = [serves]
    params = {"model": model, "api_base": base, "api_key": "sk-sim"}
    return {"model_name": route, "litellm_params": params, "model_info": info}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Each way with its fallback; `poor` has almost no money, `rich` a blocking budget."""
    ledger = tmp_path_factory.mktemp("gateway") / "ledger.db"
    records = store_at(ledger).records("create")
    keys = {name: records.create_key(name, "", [], 1)[0] for name in ("poor", "rich")}
    keys["user"] = records.create_key("many", "", [], 1, user="ada")[0]
    keys["tag"] = records.create_key("many", "", [], 1, project="p", tags=["new", "old"])[0]
    records.set_budgets(
        [
            Budget("poor-daily", "customer", "poor", 1, "day"),
            Budget("user-daily", "user", "*", 1, "day"),
            Budget("tag-daily", "project,tag", "*,old", 1, "day"),
            Budget("rich-daily", "customer", "rich", 10**15, "day"),
        ],
        1,
    )
    records.close()
    with sim_in_thread() as sim:
        entries = [entry(way.name, way.model, sim.url, way.serves) for way in WAYS]
        entries += [entry(f"{way.name}-then", way.then, sim.url) for way in WAYS]
        config = parse_config(
            {
                "model_list": entries,
                "router_settings": {
                    "num_retries": 0,
                    "cooldown_time": 0,
                    "fallbacks": [{way.name: [f"{way.name}-then"]} for way in WAYS],
                },
                "gateway": {"port": 0, "total_timeout_s": 20},
                "ledger": {"url": f"sqlite:///{ledger}"},
            },
            {},
            "test",
        )
        with Running(config) as url:
            yield Site(url, sim.url, ledger, keys)


@pytest.fixture(autouse=True)
def _no_faults(site: Site) -> Iterator[None]:
    yield
    site.fault("")


class LeavingError(Exception):
    """The program stops reading."""


def once(site: Site, way: Way, fault: str) -> None:
    """Let the next call of the way's own model go wrong."""
    site.fault(fault, model=way.billed_as, for_requests=1)


def booked(site: Site, before: int) -> list[tuple[Row, dict[str, Any]]]:
    """The attempts of the newest request once all have ended, each with its entry on the bill."""
    rows = site.attempts(site.last_request())
    wait_for(lambda: len(site.billed()) - before == len(rows))
    return list(zip(rows, site.billed()[before:], strict=True))


def check(rows: list[tuple[Row, dict[str, Any]]], *, estimated: bool = False) -> None:
    """The ledger has the bill, attempt by attempt, and held it."""
    for (cost, hold, *_), billed in rows:
        assert (cost or 0) == billed["nano_usd"]
        assert hold >= billed["nano_usd"]
    assert [bool(row[2]) for row, _ in rows] == [False] * (len(rows) - 1) + [estimated]


def check_broken(way: Way, rows: list[tuple[Row, dict[str, Any]]]) -> None:
    """What came is charged as the provider bills it, though nobody reported it."""
    if not way.uncounted:
        check(rows, estimated=True)
        return
    ((cost, hold, guessed, *_), billed), *others = rows
    assert billed["nano_usd"] <= cost <= hold
    assert guessed
    assert not others


@pytest.mark.parametrize(("way", "stream"), FORMS)
def test_served(site: Site, way: Way, stream: bool) -> None:
    """The client gets a complete answer, and the ledger has the bill."""
    before, pieces = len(site.billed()), list[str]()

    end = way.ask(site, "rich", way.name, stream, pieces.append, PATIENCE_S)

    assert end == way.end
    assert "".join(pieces)
    assert (len(pieces) > 1) is stream
    rows = booked(site, before)
    assert [billed["model"] for _, billed in rows] == [way.billed_as]
    check(rows, estimated=way.free)


@pytest.mark.parametrize("fault", ["429;retry_after=0", "cut:0"])
@pytest.mark.parametrize(("way", "stream"), FORMS)
def test_another_model_takes_over(site: Site, way: Way, stream: bool, fault: str) -> None:
    """After a 429, and where nothing was shown yet, the client gets the other model's whole answer."""
    before, pieces = len(site.billed()), list[str]()
    once(site, way, fault)

    end = way.ask(site, "rich", way.name, stream, pieces.append, PATIENCE_S)

    assert end == way.end
    assert "".join(pieces)
    rows = booked(site, before)
    then = way.then.partition("/")[2]
    assert [billed["model"] for _, billed in rows] == [way.billed_as, then]
    check(rows[1:], estimated=way.free)
    (cost, hold, guessed, error, _), billed = rows[0]
    if fault.startswith("429"):
        assert (cost, billed["nano_usd"], error, guessed) == (0, 0, "rate_limited", 0)
    else:
        # The provider bills what it had written when the stream broke. Nobody was told how much that
        # was, so an average answer is charged.
        assert billed["nano_usd"] <= cost <= hold
        assert guessed


@pytest.mark.parametrize("way", STREAMS)
def test_a_stream_that_breaks(site: Site, way: Way) -> None:
    """The client raises an error after what came, and what came is charged."""
    before, pieces = len(site.billed()), list[str]()
    once(site, way, f"cut:{way.breaks_after}")

    with pytest.raises(BROKEN) as caught:
        way.ask(site, "rich", way.name, True, pieces.append, PATIENCE_S)

    assert str(caught.value)
    assert len(pieces) == way.breaks_after
    rows = booked(site, before)
    assert site.rows("outcome")[-1] == ("error",)
    assert len(rows) == 1
    check_broken(way, rows)


@pytest.mark.parametrize("way", STREAMS)
def test_a_client_that_stops_reading(site: Site, way: Way) -> None:
    """The provider's call is cancelled, and what came until then is charged."""
    before, pieces = len(site.billed()), list[str]()
    once(site, way, f"stall:{way.breaks_after}")

    def note(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == way.breaks_after:
            raise LeavingError

    with pytest.raises(LeavingError):
        way.ask(site, "rich", way.name, True, note, PATIENCE_S)

    rows = booked(site, before)
    assert site.rows("outcome")[-1] == ("cancelled",)
    assert [billed["outcome"] for _, billed in rows] == ["aborted"]
    check_broken(way, rows)


@pytest.mark.parametrize("way", ALL)
def test_a_client_that_does_not_wait(site: Site, way: Way) -> None:
    """An answer that nobody waits for may still be written, so an average one is charged."""
    before = len(site.billed())
    once(site, way, "timeout")

    with pytest.raises(TIMED_OUT):
        way.ask(site, "rich", way.name, False, lambda _: None, IMPATIENCE_S)

    ((cost, hold, guessed, *_), billed), *others = booked(site, before)
    assert not others
    assert site.rows("outcome")[-1] == ("cancelled",)
    assert billed["nano_usd"] <= cost <= hold
    assert guessed


@pytest.mark.parametrize("scope", ["user", "tag"])
@pytest.mark.parametrize("way", PAID)
def test_a_budget_for_what_a_key_names_refuses(site: Site, way: Way, scope: str) -> None:
    """A budget for the key's user, or for one of its tags in a project, refuses as the wire's client
    expects; nobody is called."""
    before = len(site.billed())

    with pytest.raises(RATE_LIMITED) as caught:
        way.ask(site, scope, way.name, False, lambda _: None, PATIENCE_S)

    assert f"{scope}-daily" in str(caught.value)
    request = site.last_request()
    assert site.rows("refused_by", f"request_id = '{request}'") == [(f"{scope}-daily",)]
    assert len(site.billed()) == before


@pytest.mark.parametrize(("way", "stream"), PAID_FORMS)
def test_a_budget_refuses(site: Site, way: Way, stream: bool) -> None:
    """The client raises its error for too many requests, which says what ran out; nobody is called."""
    before = len(site.billed())

    with pytest.raises(RATE_LIMITED) as caught:
        way.ask(site, "poor", way.name, stream, lambda _: None, PATIENCE_S)

    error: Any = caught.value
    assert error.status_code == 429
    assert "poor-daily" in str(error)
    request = site.last_request()
    assert site.rows("outcome", f"request_id = '{request}'") == [("refused",)]
    assert site.attempts(request) == []
    assert len(site.billed()) == before

"""Keys at a real gateway: models they may use in every wire, secrets that end, and imported hashes."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import openai
import pytest

from spanledger.budgets.model import Budget
from spanledger.config import parse_config
from spanledger.ledger.keys import Key, key_digest, new_id
from spanledger.sim.server import sim_in_thread
from tests.service.gateway.batch_calls import chat, jsonl, upload
from tests.service.gateway.endpoints import Site
from tests.service.gateway.every_client import PATIENCE_S
from tests.service.gateway.harness import wait_for
from tests.service.gateway.test_clients import Running
from tests.service.gateway.test_every_wire import GPT, HAIKU, MINI, SONNET, WAYS, entry
from tests.support.ledgers import store_at

HOUR = 3_600 * 10**9
IMPORTED = "sk-of-litellm-1234"
PEOPLE = ("all", "mini", "any-gpt", "nothing", "low")


def key_of(name: str, models: tuple[str, ...], now_ns: int, **more: Any) -> Key:
    """A key that may use these models."""
    return Key(new_id(), name, "", (), now_ns, None, models=models, name=name, **more)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Routes with several models, each way with its fallback, and keys that may use some of them."""
    ledger = tmp_path_factory.mktemp("gateway") / "ledger.db"
    now_ns = time.time_ns()
    allowed = {
        "all": (),
        "mini": ("gpt-4o-mini",),
        "any-gpt": ("gpt-*",),
        "nothing": ("gpt-0",),
        "low": ("gpt-4.1",),
    }
    keys = {name: f"slk_{name}" for name in allowed} | {"imported": IMPORTED}
    with store_at(ledger).records("create") as records:
        added = [(key_of(n, m, now_ns), key_digest(keys[n])) for n, m in allowed.items()]
        added.append((key_of("imported", (), now_ns, default_user="ada"), key_digest(IMPORTED)))
        budget = Budget(
            "degrade", "customer", "low", 0, "day", action="degrade", degrade_to="cheap"
        )
        records.add_keys(added, now_ns, [replace(budget, degrade_at=1, limit_nano=10**9)])
    with sim_in_thread() as sim:
        entries = [entry(way.name, way.model, sim.url, way.serves) for way in WAYS]
        entries += [entry(f"{way.name}-then", way.then, sim.url) for way in WAYS]
        entries += [entry("cheap", MINI, sim.url), entry("claude", SONNET, sim.url)]
        for number, model in enumerate((GPT, MINI)):
            both = entry("both", model, sim.url)
            both["model_info"]["id"] = f"d-both-{number}"
            entries.append(both)
        entries.append(entry("gpt/*", "openai/*", sim.url))
        config = parse_config(
            {
                "model_list": entries,
                "router_settings": {
                    "num_retries": 0,
                    "cooldown_time": 0,
                    "fallbacks": [
                        *({way.name: [f"{way.name}-then"]} for way in WAYS),
                        {"claude": ["cheap"]},
                    ],
                },
                "gateway": {"port": 0, "total_timeout_s": 20, "pass_through": "all"},
                "ledger": {"url": f"sqlite:///{ledger}"},
            },
            {},
            "test",
        )
        with Running(config) as url:
            yield Site(url, sim.url, ledger, keys)
    reports = store_at(ledger).reports()
    assert reports.verify().problems == []
    reports.close()


def newest(site: Site) -> dict[str, Any]:
    """The last request's row."""
    wait_for(lambda: site.rows("ended_ns")[-1][0] is not None)
    with contextlib.closing(sqlite3.connect(site.ledger)) as connection:
        connection.row_factory = sqlite3.Row
        query = "SELECT * FROM requests WHERE request_id = ?"
        return dict(connection.execute(query, (site.last_request(),)).fetchone())


def ask(site: Site, key: str, model: str) -> Any:
    """A short answer."""
    with site.client(key) as client:
        return client.chat.completions.create(
            model=model, max_tokens=5, messages=[{"role": "user", "content": "hi"}]
        )


def models_called(site: Site, before: int) -> list[str]:
    return [call["model"] for call in site.billed()[before:]]


@pytest.mark.parametrize("way", [w for w in WAYS if w.then in (MINI, HAIKU)], ids=lambda w: w.name)
def test_a_key_reaches_its_models_in_every_wire(site: Site, way: Any) -> None:
    """The first deployment has another model, so the fallback serves at once, and nothing else was
    called; a key for none of the models is refused."""
    allowed = "mini" if way.then == MINI else None
    before = len(site.billed())
    if allowed:
        assert way.ask(site, allowed, way.name, False, lambda _: None, PATIENCE_S) == way.end
        assert models_called(site, before) == ["gpt-4o-mini"]
    before = len(site.billed())
    with pytest.raises(Exception, match="this key may use the models gpt-0, and "):
        way.ask(site, "nothing", way.name, False, lambda _: None, PATIENCE_S)
    assert models_called(site, before) == []
    row = newest(site)
    assert (row["outcome"], row["error_type"], row["http_status"]) == (
        "error",
        "permission_denied",
        403,
    )


def test_a_pattern_stands_for_all_that_match(site: Site) -> None:
    """`gpt-*` is every model of that name, behind a wildcard too; others are not."""
    for route in ("both", "cheap", "gpt/gpt-4o"):
        assert ask(site, "any-gpt", route).choices
    before = len(site.billed())
    assert ask(site, "any-gpt", "claude").choices
    assert models_called(site, before) == ["gpt-4o-mini"]
    with pytest.raises(openai.PermissionDeniedError, match="gpt-4o-mini, and 'gpt/o3' has none"):
        ask(site, "mini", "gpt/o3")


def test_of_several_deployments_the_allowed_one_is_called(site: Site) -> None:
    """Whatever the strategy would choose."""
    before = len(site.billed())
    for _ in range(8):
        ask(site, "mini", "both")
    assert set(models_called(site, before)) == {"gpt-4o-mini"}
    before = len(site.billed())
    for _ in range(12):
        ask(site, "all", "both")
    assert len(set(models_called(site, before))) == 2


def test_a_budget_sends_no_request_to_a_model_that_the_key_may_not_use(site: Site) -> None:
    """A route for requests near the limit that has no allowed model takes none: they stay."""
    with site.client("low") as client:
        first = client.chat.completions.create(
            model="chat", max_tokens=2000, messages=[{"role": "user", "content": "x" * 20_000}]
        )
        assert first.choices
        before = len(site.billed())
        assert ask(site, "low", "chat").choices
    assert models_called(site, before) == ["gpt-4.1"]


def test_the_list_has_what_the_key_can_call(site: Site) -> None:
    """Routes of other models alone are not in it; wildcards stay."""
    with site.client("mini") as client:
        names = {model.id for model in client.models.list()}
    assert {"cheap", "both", "gpt/*"} <= names
    assert not {"chat", "claude", "messages"} & names


def test_files_and_batches_are_for_allowed_models(site: Site) -> None:
    """A file goes to an account for an allowed model alone."""
    with site.client("mini") as client:
        with pytest.raises(openai.PermissionDeniedError, match="'chat' has none of them"):
            upload(client, jsonl(chat("one"), model="chat"))
        assert upload(client, jsonl(chat("one"), model="cheap")).id
    with site.client("all") as client:
        file = upload(client, jsonl(chat("one"), model="chat"))
        assert client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        ).id


def test_a_key_with_models_passes_nothing_through(site: Site) -> None:
    """A provider's own endpoint could use any model, even where all keys may pass through."""
    wanted = urllib.request.Request(
        f"{site.url.removesuffix('/v1')}/v1/openai/models",
        headers={"authorization": f"Bearer {site.keys['mini']}"},
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(wanted)
    assert caught.value.code == 403
    assert "some models only" in json.load(caught.value)["error"]["message"]


def test_a_rotation_leaves_nobody_out_and_one_row_owner(site: Site) -> None:
    """Both secrets work during the overlap and are one key in the rows; the old one stops on time."""
    with store_at(site.ledger).records("change") as records:
        key = Key(new_id(), "turning", "", (), 1, None, name="turning")
        records.add_keys([(key, key_digest("slk_turning"))], 1)
        new, _, _ = records.rotate_key("turning", HOUR, time.time_ns())
        site.keys |= {"old": "slk_turning", "new": new}
        owners = []
        for each in ("old", "new"):
            ask(site, each, "cheap")
            owners.append(newest(site)["key_id"])
        assert owners == [key.id, key.id]
        newer, _, _ = records.rotate_key("turning", 0, time.time_ns())
        site.keys["newer"] = newer

    def refused() -> bool:
        try:
            ask(site, "new", "cheap")
        except openai.AuthenticationError as error:
            return "has a new secret" in str(error) and key.id in str(error)
        return False

    wait_for(refused)
    assert ask(site, "newer", "cheap").choices


def test_an_imported_key_works_as_it_is(site: Site) -> None:
    """It has LiteLLM's form; its user is the one of requests that name none."""
    ask(site, "imported", "cheap")
    assert newest(site)["user_id"] == "ada"
    with site.client("imported") as client:
        client.chat.completions.create(
            model="cheap", user="eve", max_tokens=5, messages=[{"role": "user", "content": "hi"}]
        )
    assert newest(site)["user_id"] == "eve"


def test_the_ledger_knows_who_was_here(site: Site) -> None:
    """The time of the last use is written without a request that waits for it."""
    ask(site, "all", "cheap")

    def written() -> bool:
        with store_at(site.ledger).records("read") as records:
            return records.key("all").last_used_ns is not None

    wait_for(written)

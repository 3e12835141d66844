"""Files and batches: the real client's calls, whose they are, and what a batch costs."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from spanledger.budgets.model import Budget
from spanledger.config import parse_config
from spanledger.sim.server import sim_in_thread
from tests.service.gateway.batch_calls import ENDED, billed, chat, jsonl, row, run, theirs, upload
from tests.service.gateway.endpoints import Site
from tests.service.gateway.harness import wait_for
from tests.service.gateway.test_clients import Running
from tests.support.ledgers import store_at

CENT = 10**7


def configuration(
    sim_url: str, other_url: str, ledger: Path, cheap: str = "openai/gpt-4o-mini"
) -> Any:
    """Routes at two accounts, and one that LiteLLM's adapter could not keep files for."""

    def entry(route: str, model: str, base: str, key: str = "sk-sim") -> dict[str, Any]:
        params = {"model": model, "api_base": base, "api_key": key}
        return {"model_name": route, "litellm_params": params, "model_info": {"id": f"d-{route}"}}

    return parse_config(
        {
            "model_list": [
                entry("cheap", cheap, f"{sim_url}/v1"),
                entry("embed", "openai/text-embedding-3-small", f"{sim_url}/v1"),
                entry("elsewhere", "openai/gpt-4o-mini", f"{other_url}/v1", "sk-other"),
                entry("claude", "anthropic/claude-haiku-4-5", sim_url),
            ],
            "router_settings": {"num_retries": 0, "cooldown_time": 0},
            "gateway": {"port": 0, "total_timeout_s": 20},
            "ledger": {"url": f"sqlite:///{ledger}"},
        },
        {},
        "test",
    )


def keys_in(ledger: Path) -> dict[str, str]:
    """Keys of four customers, and one of a team; `poor` has a cent, and `rich` a lot."""
    records = store_at(ledger).records("create")
    keys = {name: records.create_key(name, "", [], 1)[0] for name in ("free", "rich", "poor")}
    keys["twin"] = records.create_key("rich", "", [], 1)[0]
    keys["team"] = records.create_key("rich", "red", [], 1)[0]
    keys["narrow"] = records.create_key("rich", "", ["embed"], 1)[0]
    records.set_budgets(
        [
            Budget("rich-daily", "customer", "rich", 10**13, "day"),
            Budget("poor-daily", "customer", "poor", CENT, "day"),
        ],
        1,
    )
    records.close()
    return keys


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway in front of two simulators, each an account."""
    ledger = tmp_path_factory.mktemp("batches") / "ledger.db"
    keys = keys_in(ledger)
    with (
        sim_in_thread() as sim,
        sim_in_thread(seed=2) as other,
        Running(configuration(sim.url, other.url, ledger)) as url,
    ):
        yield Site(url, sim.url, ledger, keys)
    reports = store_at(ledger).reports()
    assert reports.verify().problems == []
    reports.close()


@pytest.mark.parametrize("key", ["free", "rich"])
def test_a_batch_costs_what_its_output_says(site: Site, key: str) -> None:
    """It is held by its input, and once it is seen to have ended it costs the provider's bill to the
    nano-dollar, at the price of a batch, however often it is read."""
    data = jsonl(chat("one"), chat("two, longer", temperature=0.5), chat(metadata={"sim": "400"}))
    with site.client(key) as client:
        file = upload(client, data)
        created = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        assert created.input_file_id == file.id
        wait_for(lambda: client.batches.retrieve(created.id).status in ENDED)
        for _ in range(3):
            batch = client.batches.retrieve(created.id)
        answers = client.files.content(batch.output_file_id or "").text.splitlines()
        errors = client.files.content(batch.error_file_id or "").text.splitlines()

    assert batch.status == "completed"
    assert sorted(json.loads(line)["custom_id"] for line in answers) == ["r0", "r1"]
    assert [json.loads(line)["custom_id"] for line in errors] == ["r2"]
    found = row(site, created.id)
    assert found["cost_nano"] == found["whole_nano"] == billed(site, theirs(created.id)) > 0
    assert found["hold_nano"] >= found["cost_nano"]
    assert (found["state"], found["estimated"], found["corrected"]) == ("settled", 0, 0)
    assert found["input_tokens"] > 0
    detail = json.loads(found["detail"])
    assert detail["spanledger.service_tier"] == "batch"
    assert detail["spanledger.provider.request.id"].startswith("req_")
    uploaded = row(site, file.id)
    assert (uploaded["operation"], uploaded["cost_nano"], uploaded["state"]) == (
        "files", 0, "settled",
    )  # fmt: skip
    assert "spanledger.provider.request.id" in json.loads(uploaded["detail"])


@pytest.mark.parametrize(
    ("endpoint", "model", "bodies"),
    [
        ("/v1/embeddings", "embed", [{"input": "hello"}, {"input": ["a", "b"]}]),
        ("/v1/responses", "cheap", [{"input": "hello", "max_output_tokens": 30}]),
    ],
)
def test_other_endpoints(
    site: Site, endpoint: str, model: str, bodies: list[dict[str, Any]]
) -> None:
    """Lines may ask for other wires; each is held and charged by its own."""
    with site.client("rich") as client:
        file = upload(client, jsonl(*bodies, url=endpoint, model=model))
        batch = run(client, file.id, endpoint)
    found = row(site, batch.id)
    assert batch.status == "completed"
    assert found["hold_nano"] >= found["cost_nano"] == billed(site, theirs(batch.id)) > 0


def test_the_hold_while_it_runs(site: Site) -> None:
    """Until a batch ends its bound is held; cancelling one that answered nothing gives it back."""
    with site.client("rich") as client:
        file = upload(client, jsonl(chat(), chat()))
        batch = client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"sim": "stall"},
        )
        wait_for(lambda: client.batches.retrieve(batch.id).status == "in_progress")
        held = row(site, batch.id)
        assert (held["state"], held["cost_nano"], held["outcome"]) == ("held", 0, "ok")
        assert held["hold_nano"] > 0
        assert held["held_until_ns"] > held["started_ns"] + 24 * 3_600 * 10**9
        assert client.batches.cancel(batch.id).status == "cancelled"
    assert (row(site, batch.id)["state"], row(site, batch.id)["cost_nano"]) == ("settled", 0)


def test_a_batch_that_expires(site: Site) -> None:
    """What was answered in time is charged, and nothing else."""
    with site.client("rich") as client:
        file = upload(client, jsonl(*[chat(f"number {n}") for n in range(4)]))
        batch = run(client, file.id, metadata={"sim": "expire"})
        assert len(client.files.content(batch.output_file_id or "").text.splitlines()) == 2
    assert batch.status == "expired"
    assert row(site, batch.id)["cost_nano"] == billed(site, theirs(batch.id)) > 0


def test_a_batch_that_fails(site: Site) -> None:
    """A batch that the provider finds wrong costs nothing, and its hold is released."""
    with site.client("rich") as client:
        file = upload(client, jsonl(chat()))
        batch = run(client, file.id, metadata={"sim": "break"})
    assert batch.status == "failed"
    found = row(site, batch.id)
    assert (found["state"], found["cost_nano"]) == ("released", 0)


def test_the_output_is_charged_before_it_is_read(site: Site) -> None:
    """Reading or deleting the output of a batch charges it, and so does listing it."""
    with site.client("rich") as client:
        for read in (True, False):
            file = upload(client, jsonl(chat()))
            batch = client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            listed: Any = None

            def ended(batch: Any = batch) -> bool:
                nonlocal listed
                listed = next(b for b in client.batches.list(limit=5) if b.id == batch.id)
                return listed.status in ENDED

            wait_for(ended)
            assert row(site, batch.id)["cost_nano"] == billed(site, theirs(batch.id)) > 0
            if read:
                assert client.files.content(listed.output_file_id).text
            else:
                assert client.files.delete(listed.output_file_id).deleted


def test_a_batch_needs_room(site: Site) -> None:
    """A blocking budget refuses a batch whose lines together may cost more, before it is created."""
    with site.client("poor") as client:
        file = upload(client, jsonl(*[chat("x" * 4_000, max_tokens=16_000)] * 20))
        before = len(site.billed())
        with pytest.raises(openai.RateLimitError) as caught:
            client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
        assert caught.value.code == "budget_exceeded"
        small = upload(client, jsonl(chat()))
        assert run(client, small.id).status == "completed"
    assert len(site.billed()) == before + 1


def test_lines_without_a_cap_are_held_whole(site: Site) -> None:
    """Nothing shortens the answers of a batch later, so the model's longest one is held."""
    with site.client("rich") as client:
        body = chat()
        del body["max_tokens"]
        file = upload(client, jsonl(body))
        batch = run(client, file.id)
    assert row(site, batch.id)["hold_nano"] > 16_384 * 300


@pytest.mark.parametrize("key", ["free", "team", "narrow"])
def test_what_is_kept_is_its_owners(site: Site, key: str) -> None:
    """For another customer, or another team, neither file nor batch exists; another key of theirs
    has both, if it may use the model."""
    with site.client("rich") as owner, site.client(key) as other, site.client("twin") as twin:
        file = upload(owner, jsonl(chat()))
        batch = run(owner, file.id)
        assert twin.files.retrieve(file.id).id == file.id
        assert twin.batches.retrieve(batch.id).output_file_id == batch.output_file_id
        create: Any = other.batches.create
        asked = {
            "input_file_id": file.id,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        }
        if key == "narrow":
            with pytest.raises(openai.PermissionDeniedError):
                create(**asked)
            return
        for call in (
            lambda: other.files.retrieve(file.id),
            lambda: other.files.content(file.id),
            lambda: other.files.delete(file.id),
            lambda: other.files.content(batch.output_file_id or ""),
            lambda: other.batches.retrieve(batch.id),
            lambda: other.batches.cancel(batch.id),
            lambda: create(**asked),
        ):
            with pytest.raises(openai.NotFoundError):
                call()
        assert not [f for f in other.files.list() if f.id == file.id]
        assert not [b for b in other.batches.list() if b.id == batch.id]


def test_ids_that_are_not_ours(site: Site) -> None:
    """A provider's own id opens nothing, nor does one of ours with another file behind it."""
    with site.client("rich") as client:
        file = upload(client, jsonl(chat()))
        other = upload(client, jsonl(chat()))
        batch = run(client, file.id)
        forged = f"{file.id.split('_', 1)[0]}_{theirs(other.id)}"
        beside = f"file-{batch.id.split('_')[1]}_{theirs(other.id)}"
        for unknown in (theirs(file.id), forged, beside, "file-1", f"file-{'0' * 24}_file-1"):
            with pytest.raises(openai.NotFoundError):
                client.files.retrieve(unknown)
        for unknown in (theirs(batch.id), "batch_1", file.id):
            with pytest.raises(openai.NotFoundError):
                client.batches.retrieve(unknown)


def test_lists(site: Site) -> None:
    """A list has this customer's own things, by purpose, newest first, in pages."""
    with site.client("free") as client:
        made = [upload(client, jsonl(chat())).id for _ in range(3)]
        client.files.create(
            file=("notes.txt", b"words"), purpose="user_data", extra_body={"model": "cheap"}
        )
        assert [f.id for f in client.files.list(purpose="batch", limit=2)][:3] == made[::-1]
        assert {f.purpose for f in client.files.list()} == {"batch", "user_data"}
        page = client.files.list(purpose="batch", limit=2)
        assert page.has_more
        with pytest.raises(openai.BadRequestError):
            client.files.list(limit=0)


def test_files_that_are_no_batch(site: Site) -> None:
    """Any file is kept as it came, described, read back and deleted."""
    data = bytes(range(256)) * 9_000
    with site.client("free") as client:
        file = client.files.create(
            file=("tuning.jsonl", data), purpose="fine-tune", extra_body={"model": "cheap"}
        )
        assert (file.bytes, file.filename) == (len(data), "tuning.jsonl")
        assert client.files.content(file.id).content == data
        assert client.files.retrieve(file.id).purpose == "fine-tune"
        assert client.files.delete(file.id).deleted
        for call in (client.files.retrieve, client.files.content, client.files.delete):
            with pytest.raises(openai.NotFoundError):
                call(file.id)
        other = client.files.create(
            file=("x.jsonl", b"{}"), purpose="fine-tune", extra_body={"model": "cheap"}
        )
        with pytest.raises(openai.BadRequestError, match="purpose 'batch'"):
            run(client, other.id)


def test_where_a_file_goes(site: Site) -> None:
    """A file goes where the route that is named goes; a batch's lines name it as well. With several
    accounts and no name, the error says what to do."""
    header = {"x-spanledger-route": "elsewhere"}
    with site.client("free") as client:
        for more in (
            {"extra_body": {"target_model_names": "elsewhere"}},
            {"extra_body": {"model": "elsewhere"}},
            {"extra_headers": header},
        ):
            file = client.files.create(file=("a", b"x"), purpose="assistants", **more)  # type: ignore[arg-type]  # either
            assert row(site, file.id)["deployment"] == "d-elsewhere"
        by_line = upload(client, jsonl(chat(), model="elsewhere"))
        assert row(site, by_line.id)["deployment"] == "d-elsewhere"
        assert run(client, by_line.id).status == "completed"
        with pytest.raises(openai.BadRequestError, match="target_model_names"):
            client.files.create(file=("a", b"x"), purpose="assistants")
        with pytest.raises(openai.BadRequestError, match="keeps files"):
            client.files.create(
                file=("a", b"x"), purpose="assistants", extra_body={"model": "claude"}
            )
        with pytest.raises(openai.NotFoundError):
            upload(client, jsonl(chat(), model="nothing"))
    with site.client("narrow") as client, pytest.raises(openai.PermissionDeniedError):
        upload(client, jsonl(chat()))


def test_no_fallback_loses_a_file(site: Site) -> None:
    """A batch runs where its file is: with that account failing there is no other."""
    with site.client("free") as client:
        file = upload(client, jsonl(chat(), model="elsewhere"))
        raw = client.batches.with_raw_response.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        assert raw.headers["x-spanledger-deployment"] == "d-elsewhere"
        assert raw.headers["x-spanledger-attempts"] == "1"


def test_anthropics_files_are_elsewhere(site: Site) -> None:
    """Anthropic's client is told where its own files are; it would not understand OpenAI's."""
    with (
        anthropic.Anthropic(base_url=site.url, api_key=site.keys["free"]) as client,
        pytest.raises(anthropic.BadRequestError, match="/v1/anthropic/v1/files"),
    ):
        client.beta.files.list()


BROKEN = {
    "not json": (b"{", "line 1"),
    "no body": (b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions"}', "line 1"),
    "method": (jsonl(chat()).replace(b"POST", b"GET"), "method must be POST"),
    "url": (jsonl(chat(), url="/v1/images/generations"), "url one of"),
    "two models": (jsonl(chat()) + b"\n" + jsonl(chat(), model="elsewhere"), "same model"),
    "two urls": (
        jsonl(chat()) + b"\n" + jsonl({"input": "x"}, url="/v1/responses"),
        "same url",
    ),
    "stream": (jsonl(chat(stream=True)), "not streamed"),
    "tier": (jsonl(chat(service_tier="priority")), "service_tier"),
    "messages": (jsonl({"messages": []}), "line 1.*messages"),
    "follows": (
        jsonl({"input": "x", "previous_response_id": "resp_1"}, url="/v1/responses"),
        "previous_response_id",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_lines_that_cannot_run(site: Site, case: str) -> None:
    """A line that would fail, or that no hold could bound, is refused at the upload, by its number."""
    data, message = BROKEN[case]
    with site.client("rich") as client, pytest.raises(openai.BadRequestError, match=message):
        upload(client, data)


def test_unbounded_lines(site: Site) -> None:
    """A line whose cost nothing bounds is refused where a budget blocks."""
    body = {"input": "x", "tools": [{"type": "web_search"}], "max_output_tokens": 30}
    with site.client("rich") as client:
        file = upload(client, jsonl(body, url="/v1/responses"))
        with pytest.raises(openai.BadRequestError) as caught:
            client.batches.create(
                input_file_id=file.id, endpoint="/v1/responses", completion_window="24h"
            )
    assert caught.value.code == "unbounded_cost"


def test_requests_that_make_no_batch(site: Site) -> None:
    """A batch for another endpoint than its lines', or with unknown fields, is refused and released."""
    with site.client("rich") as client:
        file = upload(client, jsonl(chat()))
        create: Any = client.batches.create
        for endpoint, code in (
            ("/v1/responses", "mismatched_endpoint"),
            ("/v1/x", "invalid_value"),
        ):
            with pytest.raises(openai.BadRequestError) as caught:
                create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")
            assert caught.value.code == code
        with pytest.raises(openai.BadRequestError, match="completion_window") as caught:
            create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="9h")
        request_id = caught.value.response.headers["x-request-id"]
    with contextlib.closing(sqlite3.connect(site.ledger)) as connection:
        query = "SELECT state, cost_nano FROM attempts WHERE request_id = ?"
        assert connection.execute(query, (request_id,)).fetchall() == [("released", 0)]


def test_ids_survive_a_restart(tmp_path: Path) -> None:
    """Another gateway on the same ledger finds file and batch, and charges it."""
    ledger = tmp_path / "ledger.db"
    keys = keys_in(ledger)
    with sim_in_thread() as sim:
        config = configuration(sim.url, sim.url, ledger)
        with Running(config) as url, Site(url, sim.url, ledger, keys).client("rich") as client:
            file = upload(client, jsonl(chat()))
            batch = client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
        with Running(config) as url:
            site = Site(url, sim.url, ledger, keys)
            with site.client("rich") as client:
                wait_for(lambda: client.batches.retrieve(batch.id).status in ENDED)
                assert client.files.retrieve(file.id).bytes
            assert row(site, batch.id)["cost_nano"] == site.billed_nano() > 0


def test_a_model_that_is_another_by_now(tmp_path: Path) -> None:
    """A file's lines keep the model of its upload, so it is not held and charged as another one."""
    ledger = tmp_path / "ledger.db"
    keys = keys_in(ledger)
    with sim_in_thread() as sim:
        config = configuration(sim.url, sim.url, ledger)
        with Running(config) as url, Site(url, sim.url, ledger, keys).client("rich") as client:
            file = upload(client, jsonl(chat()))
        config = configuration(sim.url, sim.url, ledger, cheap="openai/gpt-4.1-nano")
        with Running(config) as url, Site(url, sim.url, ledger, keys).client("rich") as client:
            with pytest.raises(openai.BadRequestError, match="upload it again") as caught:
                client.batches.create(
                    input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
                )
            assert caught.value.code == "mismatched_model"


@pytest.mark.parametrize("name", ["file", "file[]", "File", "purpose", "purpose[]", "Purpose"])
def test_a_form_that_two_readers_read_differently(site: Site, name: str) -> None:
    """A second field that the provider might take for the file, or for what it is for, is refused:
    its lines would not have been read."""
    unread = jsonl(chat(), model="gpt-4o").decode()
    with site.client("rich") as client, pytest.raises(openai.BadRequestError):
        upload(client, jsonl(chat()), extra_body={name: unread})


def test_an_upload_that_is_too_large(site: Site) -> None:
    """A file over `gateway.max_upload_bytes` is refused by its length, before it is sent."""
    with (
        site.client("free", max_retries=0) as client,
        pytest.raises(openai.APIStatusError) as caught,
    ):
        upload(client, b"x" * (51 * 2**20))
    assert caught.value.status_code == 413

"""`spanledger notices` and the processes that send: real commands, real receivers."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spanledger.cli import app
from spanledger.errors import SpanledgerError
from spanledger.ledger.ports import Store
from spanledger.notices.service import NOTICES_LOCK, run_notices, send_once
from tests.service.notices.conftest import SECOND, SECRET, Rig, hook
from tests.support.ledgers import store_at
from tests.support.notice_sink import Answer, NoticeSink
from tests.support.processes import Child, poll

GATEWAY = """
model_list:
  - model_name: chat
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "{provider}/v1", api_key: os.environ/PROVIDER}}
budgets:
  - {{name: small, limit: 0.001, thresholds: [1]}}
telemetry: {{enabled: {telemetry}, endpoint: "http://127.0.0.1:9"}}
notices:
  destinations:
    - {{name: hook, kind: webhook, url: os.environ/HOOK, secrets: [os.environ/NOTICE_SECRET]}}
"""


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    result = CliRunner().invoke(app, ["notices", *arguments], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def configured(folder: Path, url: str) -> str:
    """A file with one destination."""
    file = folder / "notices.yaml"
    ledger = f"sqlite:///{folder}/ledger.db"
    destination = {"name": "hook", "kind": "webhook", "url": url, "secrets": [SECRET]}
    file.write_text(
        json.dumps({"ledger": {"url": ledger}, "notices": {"destinations": [destination]}})
    )
    return str(file)


async def test_what_was_found_is_listed(rig: Rig, sink: NoticeSink) -> None:
    """Newest first, with what became of it; as a table and as JSON."""
    rig.book.budget()
    rig.watch(hook(), hook("late", steps=[90]))
    await rig.spend(60)
    rig.look()
    url = rig.book.store.url
    code, out, _ = run("list", "--ledger", url)
    assert code == 0
    row = out.splitlines()[1]
    assert row.split()[4:] == ["b", "acme", "50", "%", "$0.60", "$1.00", "hook", "waiting"]
    [entry] = json.loads(run("list", "--json", "--ledger", url)[1])
    assert entry["destination"] == "hook"
    assert entry["type"] == "budget.threshold_reached"
    assert entry["state"] == "waiting"
    assert entry["data"]["spent_usd"] == "0.60"
    assert json.loads(run("list", "--json", "--state", "sent", "--ledger", url)[1]) == []
    assert run("list", "--to", "nobody", "--ledger", url)[1] == "no notices\n"


@pytest.fixture
def sink() -> Any:
    """A receiver."""
    with NoticeSink() as sink:
        yield sink


def test_a_destination_can_be_tried(tmp_path: Path, sink: NoticeSink) -> None:
    """With a message that is signed like any other, and is about nothing."""
    file = configured(tmp_path, sink.url)
    code, out, _ = run("test", "hook", "--config", file)
    assert code == 0
    assert out.startswith("'hook' accepted the message notice_")
    [received] = sink.received
    assert json.loads(received.body)["type"] == "notice.test"
    assert received.headers["webhook-signature"].startswith("v1,")

    sink.script = [Answer(404, body=b"no_service")]
    code, _, problem = run("test", "hook", "--config", file)
    assert (code, problem) == (
        1,
        "error: 'hook' did not accept the message: HTTP 404: no_service\n",
    )
    sink.script = [Answer(500)]
    code, out, _ = run("test", "hook", "--config", file, "--json")
    assert (code, json.loads(out)["accepted"]) == (1, False)
    code, _, problem = run("test", "hok", "--config", file)
    assert (code, problem) == (1, f"error: {file} has no destination 'hok'; did you mean 'hook'?\n")


def test_once_is_enough_for_a_cron_job(tmp_path: Path, sink: NoticeSink) -> None:
    """It finds what is new, sends it, and says whether that worked. `retry` makes what failed due."""
    file = configured(tmp_path, sink.url)
    code, _, problem = run("run", "--once", "--config", file)
    assert (code, "there is no ledger" in problem) == (1, True)
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    for arguments in (
        ["budget", "set", "b", "--limit", "5"],
        ["notices", "run", "--once", "--config", file],
    ):
        assert CliRunner().invoke(app, [*arguments, "--ledger", ledger]).exit_code == 0
    store = store_at(tmp_path / "ledger.db")
    _spend(store, 3 * 10**9)
    sink.script = [Answer(503)]
    code, _, problem = run("run", "--once", "--config", file)
    assert (code, "not everything was accepted" in problem) == (1, True)
    assert json.loads(run("retry", "hook", "--json", "--ledger", ledger)[1]) == {"retried": 1}
    assert run("run", "--once", "--config", file)[0] == 0
    assert len(sink.received) == 2
    assert run("retry", "--ledger", ledger)[1] == "nothing has failed or waits\n"
    code, _, problem = run("run", "--config", str(_without(tmp_path)))
    assert (code, "has no destinations" in problem) == (2, True)


def _without(folder: Path) -> Path:
    file = folder / "none.yaml"
    file.write_text("telemetry: {enabled: false}\n")
    return file


def _spend(store: Store, nano: int) -> None:
    """An attempt that costs so much, behind the gateway's back."""
    import time

    from spanledger.budgets.model import HoldSizes
    from spanledger.ledger.model import AttemptEnd, RequestEnd, RequestStart, Reservation

    now = time.time_ns()
    start = RequestStart(
        *(f"req_{now:024x}", f"{now:032x}", f"{now:016x}", "", now, "acme", "", "", "chat", "chat"),
        stream=False,
    )
    attempt = Reservation(
        request=start,
        number=1,
        span_id=f"{now + 1:016x}",
        now_ns=now,
        deployment="d",
        provider="openai",
        model="m",
        sizes=HoldSizes(nano, nano, nano),
        priced=True,
        price_id="p",
        unbounded="",
    )
    writer = store.writer("test", 30 * SECOND, time.time_ns)
    writer.commit([attempt])
    end = RequestEnd("ok", "", 200, now)
    writer.commit(
        [AttemptEnd(attempt_id=attempt.attempt_id, ended_ns=now, cost_nano=nano, request=end)]
    )
    writer.close()


def test_one_process_sends(store: Store, sink: NoticeSink) -> None:
    """A second one waits, and `run --once` says why it does not."""
    store.migrate()
    lock = store.exclusive(NOTICES_LOCK)
    assert lock.acquire()
    with pytest.raises(SpanledgerError, match="another process sends"):
        send_once(store, [hook(url=sink.url)], threading.Event())
    stop = threading.Event()
    waiting = threading.Thread(target=run_notices, args=(store, [hook(url=sink.url)], stop))
    waiting.start()
    lock.close()
    assert poll(lambda: not _free(store))
    stop.set()
    waiting.join(30)
    assert not waiting.is_alive()
    assert _free(store)


def _free(store: Store) -> bool:
    lock = store.exclusive(NOTICES_LOCK)
    try:
        return lock.acquire()
    finally:
        lock.close()


@pytest.mark.parametrize("telemetry", ["true", "false"])
def test_the_gateway_sends_notices(tmp_path: Path, sink: NoticeSink, telemetry: str) -> None:
    """With its shipper, or without telemetry in a process of their own: the request is served, and the receiver
    is told soon after. The process gets the variables that the section names, and no provider's key."""
    provider = Child(["sim", "--port", "0", "--speed", "0"], tmp_path, {})
    try:
        address = provider.url()
        text = GATEWAY.format(provider=address, telemetry=telemetry)
        (tmp_path / "spanledger.yaml").write_text(text)
        environment = {"HOOK": sink.url, "NOTICE_SECRET": SECRET, "PROVIDER": "sk-canary"}
        gateway = Child(["gateway", "--port", "0"], tmp_path, environment)
        try:
            url = gateway.url()
            pid = gateway.process.pid
            [child] = poll(lambda: Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
            assert poll(lambda: _watched(tmp_path)), gateway.output
            _ask(url)
            assert poll(lambda: sink.received), gateway.output
            environ = Path(f"/proc/{child}/environ").read_bytes()
            assert b"NOTICE_SECRET" in environ
            assert b"sk-canary" not in environ
            assert "canary-path" not in gateway.output
        finally:
            assert gateway.stop() == 0
    finally:
        provider.stop()
    body = json.loads(sink.received[0].body)
    assert body["data"]["budget"] == "small"


def _watched(folder: Path) -> bool:
    """Whether somebody has begun to watch: what is reached before is not told."""
    with store_at(folder / ".spanledger" / "ledger.db").reports() as reports:
        return bool(reports._sql.rows("SELECT 1 FROM state WHERE key = 'notices_watched_accounts'"))  # type: ignore[attr-defined]  # no public question asks it


def _ask(url: str) -> None:
    import urllib.request

    body = {
        "model": "chat",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "hi " * 50}],
    }
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200

"""A value of the wrong kind, wherever a body has it, is refused or passed on, and never a fault of ours."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from spanledger.errors import InvalidRequestError, ProviderError
from spanledger.providers.base import Call, Deployment
from spanledger.wires import COUNTERS, FORMS, INBOUND, OUTBOUND
from spanledger.wires.base import Ask, Habits, Inbound
from spanledger.wires.file_ids import named_files
from spanledger.wires.gemini.inbound import GenerateContent
from spanledger.wires.provider_ids import provider_ids
from tests.service.wires.odd_bodies import BODIES, odd_bodies

WIRES = {wire.name: wire for wire in INBOUND.values()} | {"generate_content": GenerateContent("m")}
MODELS = {
    "messages": ("claude-sonnet-4-5", "claude-opus-4-7"),
    "responses": ("gpt-5.4-codex", "gpt-4o-mini"),
    "generate_content": ("gemini-2.5-flash",),
}
"""Models whose rules differ, by what is spoken to them."""
DEPLOYMENTS = [
    (name, Deployment("d", "r", "openai", "openai", model, f"openai/{model}"))
    for name in {spoken for _, spoken in OUTBOUND}
    for model in MODELS.get(name, ("gpt-4o-mini", "gpt-5"))
]


def faults_of(wire: Inbound, ask: Ask) -> list[str]:
    """What raises anything but a refusal, once a request was read."""
    found = []
    named_files(ask.fields)
    list(provider_ids(ask.fields))
    for step in (wire.estimate, wire.attributes, lambda fields: wire.content(fields, b"{}", [])):
        try:
            step(ask.fields)
        except Exception as error:  # noqa: BLE001  # this is what is looked for
            found.append(f"{step}: {error!r}")
    for counter in COUNTERS.values():
        if counter.wire.name == wire.name:
            try:
                counter.estimated(ask)
            except Exception as error:  # noqa: BLE001  # as above
                found.append(f"count: {error!r}")
    for spoken, deployment in DEPLOYMENTS:
        written = OUTBOUND.get((wire.name, spoken))
        if written is None:
            continue
        try:
            written.request(Call(deployment, wire, dict(ask.fields), 60), ask.stream, Habits())
        except ProviderError:
            pass
        except Exception as error:  # noqa: BLE001  # as above
            found.append(f"to {spoken} of {deployment.model}: {error!r}")
    return found


@pytest.mark.parametrize("name", BODIES)
def test_the_bodies_themselves_are_written_for_every_server(name: str) -> None:
    """Else the first refusal would hide what comes behind it."""
    wire = WIRES[name]
    ask = wire.read(msgspec.json.encode(BODIES[name]))

    for spoken, deployment in DEPLOYMENTS:
        if (written := OUTBOUND.get((name, spoken))) is not None:
            made = written.request(Call(deployment, wire, dict(ask.fields), 60), False, Habits())
            assert made.body.startswith(b"{")


@pytest.mark.parametrize("name", BODIES)
def test_odd_values_are_refused_or_passed_on(name: str) -> None:
    """In each place of a request that uses much of its wire."""
    wire, faults, read = WIRES[name], [], Counter[bool]()
    for where, body in odd_bodies(BODIES[name]):
        try:
            ask = wire.read(msgspec.json.encode(body))
        except InvalidRequestError:
            read[False] += 1
            continue
        except Exception as error:  # noqa: BLE001  # as above
            faults.append(f"{where}: read: {error!r}")
            continue
        read[True] += 1
        faults += [f"{where}: {fault}" for fault in faults_of(wire, ask)]

    assert read[True]
    assert read[False]
    assert not faults, "\n".join(faults[:20])


def test_all_wires_in_json_are_tried() -> None:
    """A new wire needs a body."""
    assert set(BODIES) == {wire.name for wire in INBOUND.values()} - (
        {wire.name for wire in FORMS.values()} - {"image_edits"}
    )


@pytest.mark.parametrize("field", ["Quality", "SIZE", "partialImages"])
def test_what_an_image_costs_has_one_spelling(field: str) -> None:
    """A server that reads names without regard to case would draw something else than was held for."""
    body = {**BODIES["images"], field: "high"}

    with pytest.raises(InvalidRequestError, match="write"):
        WIRES["images"].read(msgspec.json.encode(body))

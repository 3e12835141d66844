"""The section `notices`: what it takes, what is wrong with it, and that no message shows a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spanledger.config import load_aside, parse_config
from spanledger.config.load import _draft
from spanledger.config.notices import (
    MAX_DESTINATIONS,
    MailDestination,
    SlackDestination,
    WebhookDestination,
)

SECRET = "whsec_" + "A" * 32
WEBHOOK = {"name": "a", "kind": "webhook", "url": "https://example.com/h", "secrets": [SECRET]}
MAIL = {
    "name": "m",
    "kind": "mail",
    "server": "smtp.example.com",
    "sender": "a@example.com",
    "to": ["b@example.com"],
}


def settings(data: dict[str, Any], environ: dict[str, str] | None = None) -> Any:
    """The section of a valid file."""
    return parse_config(data, environ or {}, "f").notices


def problems(*destinations: Any, **environ: str) -> list[str]:
    """What is wrong with destinations."""
    data = {"notices": {"destinations": list(destinations)}}
    return list(_draft(data, environ, "f").problems)


def warnings(data: dict[str, Any], environ: dict[str, str]) -> tuple[str, ...]:
    """What a file is warned of."""
    return parse_config(data, environ, "f").warnings


def test_each_kind_is_read() -> None:
    """Secrets come from the environment, and their names are known."""
    found = settings(
        {
            "notices": {
                "destinations": [
                    {**WEBHOOK, "secrets": ["os.environ/NEW", "os.environ/OLD"]},
                    {"name": "s", "kind": "slack", "url": "os.environ/SLACK"},
                    {**MAIL, "security": "tls"},
                ]
            }
        },
        {"NEW": SECRET, "OLD": SECRET, "SLACK": "https://hooks.example.com/x"},
    )
    webhook, slack, mail = found.destinations
    assert isinstance(webhook, WebhookDestination)
    assert [secret.get_secret_value() for secret in webhook.secrets] == [SECRET, SECRET]
    assert isinstance(slack, SlackDestination)
    assert slack.url.get_secret_value() == "https://hooks.example.com/x"
    assert isinstance(mail, MailDestination)
    assert mail.whole_port == 465
    assert found.variables == {"NEW", "OLD", "SLACK"}
    assert "hooks.example.com" not in repr(found)


def test_steps_and_scopes_are_written_as_people_write_them() -> None:
    """Percentages with and without their sign; combinations in any order."""
    entry = {**WEBHOOK, "steps": [50, "80%", "100", "forecast"], "scopes": ["model, customer"]}
    [found] = settings({"notices": {"destinations": [entry]}}).destinations
    assert found.steps == ("50", "80", "100", "forecast")
    assert found.scopes == ("customer,model",)


def test_all_mistakes_come_at_once() -> None:
    """Each with its place and what to write instead."""
    found = problems(
        {**WEBHOOK, "steps": [0, "forcast"], "scopes": ["custmer"], "bogus": 1},
        {**WEBHOOK, "secrets": "os.environ/UNSET", "timeout_s": 0},
        {**MAIL, "to": [], "username": "x"},
        {**MAIL, "name": "n", "to": ["nobody"], "username": "x", "password": 5, "security": "none"},
        {"name": "k", "kind": "webhok"},
        "text",
    )
    assert found == [
        "notices.destinations.0.scopes: 'custmer' is not a scope; did you mean 'customer'?",
        "notices.destinations.0.steps: a percentage is a whole number from 1 to 100",
        "unknown key 'notices.destinations.0.bogus'; did you mean 'budgets'?",
        "notices.destinations.1.timeout_s: must be greater than 0.0, got 0",
        "notices.destinations.2.to: must have 1 to 50 addresses",
        "notices.destinations.3.to.0: 'nobody' is not a mail address; write it like ops@example.com",
        "notices.destinations.4.kind: expected webhook, slack or mail; got 'webhok'; did you mean 'webhook'?",
        "notices.destinations.5: expected a mapping, got str",
    ]


def test_a_destination_without_its_variable_is_off() -> None:
    """As a deployment without its key: a gateway starts without it and says so."""
    entries = [{**WEBHOOK, "secrets": ["os.environ/UNSET"]}, {**WEBHOOK, "name": "b"}]
    data = {"notices": {"destinations": entries}}
    assert [d.name for d in settings(data).destinations] == ["b"]
    assert warnings(data, {}) == (
        "notices.destinations.0 (a) is off: secrets needs the environment variable UNSET, which is not set",
    )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"secrets": []}, "secrets: add a secret"),
        ({"signed": False}, "signed: is false, but there are secrets"),
        ({"secrets": [SECRET] * 5}, "secrets: there may be 4 secrets"),
        ({"url": "ftp://example.com"}, "url: must be an http(s) URL"),
        ({"url": "https://"}, "url: must be an http(s) URL"),
        ({"url": "https://example.com:port/"}, "url: must be an http(s) URL"),
        ({"url": "file:///etc/passwd"}, "url: must be an http(s) URL"),
        ({"url": "https://u:canary@example.com/"}, "url: must not contain a user"),
        ({"url": "https://example.com/a b"}, "url: must be percent-encoded"),
        ({"url": "https://example.com/\r\nx: y"}, "url: must be percent-encoded"),
        ({"headers": {"Host": "x"}}, "headers.Host: is set by spanledger"),
        ({"headers": {"Webhook-Id": "x"}}, "headers.Webhook-Id: is set by spanledger"),
        ({"headers": {"a b": "x"}}, "headers.a b"),
        ({"headers": {"X": "canary\r\nY: z"}}, "headers.X: must be printable ASCII"),
        ({"steps": []}, "steps: must not be empty"),
        ({"timeout_s": 61}, "timeout_s: must be at most 60"),
        ({"format": "xml"}, "format: expected 'standard' or 'cloudevents'"),
    ],
)
def test_a_webhook_goes_where_it_may(changes: dict[str, Any], problem: str) -> None:
    """Only to http(s), with nothing in a header that does not belong there."""
    [found] = problems({**WEBHOOK, **changes})
    assert found.startswith(f"notices.destinations.0.{problem}")
    assert "canary" not in found


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"username": "ada"}, "username: username and password belong together"),
        ({"password": "canary"}, "username: username and password belong together"),
        (
            {"username": "ada", "password": "canary", "security": "none"},
            "security: none would send the password unencrypted",
        ),
        ({"to": ["a@example.com\nBcc: x@example.com"]}, "to.0: "),
        ({"sender": "x"}, "sender: 'x' is not a mail address"),
        ({"port": 0}, "port: must be at least 1"),
    ],
)
def test_a_mail_is_sent_safely(changes: dict[str, Any], problem: str) -> None:
    """No password without encryption, and no second header in an address."""
    [found] = problems({**MAIL, **changes})
    assert found.startswith(f"notices.destinations.0.{problem}")
    assert "canary" not in found


@pytest.mark.parametrize(
    "entry",
    [
        {**WEBHOOK, "secrets": "canary"},
        {**WEBHOOK, "secrets": ["canary"]},
        {**WEBHOOK, "secrets": {"canary": "canary"}},
        {**WEBHOOK, "secrets": 12345},
        {**WEBHOOK, "url": "canary"},
        {**WEBHOOK, "url": 12345},
        {**WEBHOOK, "url": ["canary"]},
        {**WEBHOOK, "headers": "canary"},
        {**WEBHOOK, "headers": {"Authorization": ["canary"]}},
        {**MAIL, "username": "a", "password": ["canary"]},
    ],
)
def test_no_mistake_shows_a_secret(entry: dict[str, Any]) -> None:
    """Whatever YAML has made of it."""
    found = problems(entry)
    assert found
    assert not any("canary" in text or "12345" in text for text in found)


def test_names_are_unique_and_few() -> None:
    """Deliveries are remembered by name."""
    assert problems(WEBHOOK, WEBHOOK) == ["notices.destinations: the name 'a' is used twice"]
    many = [{**WEBHOOK, "name": str(n)} for n in range(MAX_DESTINATIONS + 1)]
    assert problems(*many) == ["notices.destinations: there may be 32 destinations, not 33"]


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ([], "notices: expected a mapping, got list"),
        ({"destination": []}, "unknown key 'notices.destination'; did you mean 'destinations'?"),
        ({"destinations": {}}, "notices.destinations: expected a list, got dict"),
    ],
)
def test_the_section_has_a_list(section: Any, problem: str) -> None:
    """Anything else is said to be wrong."""
    assert list(_draft({"notices": section}, {}, "f").problems) == [problem]


# LiteLLM ------------------------------------------------------------------------------------


def test_litellms_alerts_on_budgets_are_read() -> None:
    """As its proxy reads them: from the environment, or by type."""
    environ = {
        "SLACK_WEBHOOK_URL": "https://s.example.com/1",
        "WEBHOOK_URL": "https://w.example.com/",
    }
    found = settings({"general_settings": {"alerting": ["slack", "webhook"]}}, environ)
    slack, webhook = found.destinations
    assert (slack.name, slack.kind) == ("litellm-slack", "slack")
    assert (webhook.name, webhook.signed) == ("litellm-webhook", False)
    assert found.variables == {"SLACK_WEBHOOK_URL", "WEBHOOK_URL"}

    by_type = {"budget_alerts": ["https://s.example.com/2", "https://s.example.com/3"]}
    general = {"alerting": ["slack"], "alert_to_webhook_url": by_type}
    several = settings({"general_settings": general}, environ).destinations
    assert [(d.name, d.url.get_secret_value()[-1]) for d in several] == [
        ("litellm-slack-1", "2"),
        ("litellm-slack-2", "3"),
    ]


def test_litellms_other_alerts_are_not_ours() -> None:
    """If a file names types of alerts without budgets, nobody gets notices on budgets."""
    general = {"alerting": ["slack"], "alert_types": ["llm_exceptions"]}
    environ = {"SLACK_WEBHOOK_URL": "https://s.example.com/1"}
    assert settings({"general_settings": general}, environ).destinations == ()


@pytest.mark.parametrize(
    ("general", "warned"),
    [
        ({"alerting": ["slack"]}, "slack has no effect, because SLACK_WEBHOOK_URL is not set"),
        ({"alerting": ["email"]}, "'email' has no effect; add a destination to `notices`"),
    ],
)
def test_a_file_of_litellms_is_served_without_its_alerts(
    general: dict[str, Any], warned: str
) -> None:
    """As LiteLLM's proxy would serve it."""
    found = warnings({"general_settings": general}, {})
    assert found == (f"general_settings.alerting: {warned}",)


def test_our_section_takes_precedence() -> None:
    """Nobody is told twice."""
    data = {"general_settings": {"alerting": ["slack"]}, "notices": {"destinations": [WEBHOOK]}}
    environ = {"SLACK_WEBHOOK_URL": "https://s.example.com/1"}
    assert [d.name for d in settings(data, environ).destinations] == ["a"]
    assert warnings(data, environ) == (
        "general_settings.alerting has no effect: `notices` says who is told",
    )


def test_a_process_next_to_the_gateway_needs_no_providers_key(tmp_path: Path) -> None:
    """It reads what it sends and where, also from an included file, and nothing of deployments."""
    (tmp_path / "notices.yaml").write_text(
        "notices:\n  destinations:\n    - {name: s, kind: slack, url: os.environ/CHAT}\n"
    )
    file = tmp_path / "spanledger.yaml"
    file.write_text(
        "include: [notices.yaml]\n"
        "environment_variables: {CHAT: 'https://c.example.com/'}\n"
        "general_settings: {database_url: x, master_key: sk-1}\n"
        "model_list: [{bogus: 1}]\n"
        "ledger: {url: 'sqlite:///x.db'}\n"
    )
    config = load_aside(file, {})
    assert [d.name for d in config.notices.destinations] == ["s"]
    assert config.ledger.url == "sqlite:///x.db"

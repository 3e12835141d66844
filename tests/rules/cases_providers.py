"""Providers: fallbacks, error budgets, cooldowns, the first token."""

from __future__ import annotations

from tests.rules.harness import Case, Fires

STORM = "FallbackStorm"
BURN = "ProviderErrorBudgetBurn"
DOWN = "AllDeploymentsDown"
SLOW = "TimeToFirstTokenSlow"


def requests(values: str, route: str = "chat", error: str = "") -> dict[str, str]:
    """The counter of a route's requests: those served, or those that ended in an error."""
    ended = (
        f'error_type="{error}",spanledger_outcome="error"' if error else 'spanledger_outcome="ok"'
    )
    labels = f'{ended},spanledger_route="{route}"'
    return {f"spanledger_request_duration_seconds_count{{{labels}}}": values}


def fallbacks(values: str, route: str = "chat", reason: str = "rate_limited") -> dict[str, str]:
    """The counter of a route's fallbacks."""
    labels = (
        f'spanledger_fallback_from="{route}",spanledger_fallback_reason="{reason}"'
        ',spanledger_fallback_to="backup-1"'
    )
    return {f"spanledger_fallbacks_total{{{labels}}}": values}


def storm(share: str, route: str = "chat") -> Fires:
    """A storm alert."""
    return Fires(
        f"{share} of the requests for {route} fell back in the last five minutes.",
        {"spanledger_route": route},
        period="in the last 5m",
    )


OF_GATEWAY = "gateway"
VIA_GATEWAY = "application_via_gateway"


def attempts(
    values: str, error: str = "", provider: str = "openai", source: str = OF_GATEWAY
) -> dict[str, str]:
    """The counter of attempts at a provider, by how they failed and who counted."""
    kind = f',error_type="{error}"' if error else ""
    said = f',spanledger_source="{source}"' if source else ""
    labels = f'gen_ai_operation_name="chat",gen_ai_provider_name="{provider}"{kind}{said}'
    return {f"gen_ai_client_operation_duration_seconds_count{{{labels}}}": values}


def burn(share: str, severity: str, provider: str = "openai") -> Fires:
    """An error budget burn alert."""
    windows = {"page": "1h or 6h", "ticket": "1d or 3d"}[severity]
    return Fires(
        f"{share} of the attempts at {provider} failed in the last {windows}, and it is still failing.",
        {"gen_ai_provider_name": provider},
        severity,
        period=f"in the last {windows}",
    )


def up(deployment: str, values: str, instance: str = "g1", route: str = "chat") -> dict[str, str]:
    """Whether a gateway uses a deployment."""
    labels = f'deployment="{deployment}",instance="{instance}",job="gateway",route="{route}"'
    return {f"spanledger_deployment_up{{{labels}}}": values}


def down(route: str = "chat") -> Fires:
    """A route without a deployment as it reads."""
    return Fires(f"Every deployment of {route} is cooling down at every gateway.", {"route": route})


def streams(
    under: dict[str, str], model: str = "gpt-4o", source: str = OF_GATEWAY
) -> dict[str, str]:
    """The histogram of times to first token: the counters of its buckets."""
    name = "gen_ai_client_operation_time_to_first_chunk_seconds"
    labels = f'gen_ai_request_model="{model}",spanledger_source="{source}"'
    buckets = {f'{name}_bucket{{{labels},le="{le}"}}': v for le, v in under.items()}
    return {**buckets, f"{name}_count{{{labels}}}": under["+Inf"]}


def slow(seconds: str, model: str = "gpt-4o") -> Fires:
    """A slow model alert."""
    return Fires(
        f"One in twenty streams of {model} waited over {seconds} for its first token.",
        {"gen_ai_request_model": model},
        period="in the last 10m",
    )


LATE = {"2.56": "0+16x90", "5.12": "0+18x90", "10.24": "0+20x90", "+Inf": "0+20x90"}
FINE = {"2.56": "0+16x90", "5.12": "0+19.2x90", "10.24": "0+20x90", "+Inf": "0+20x90"}
COARSE = {"5": "0+10x90", "10": "0+20x90", "25": "0+20x90", "+Inf": "0+20x90"}
FEW = {"2.56": "0x90", "5.12": "0x90", "10.24": "0+1x90", "+Inf": "0+1x90"}

SERVED = {
    **up("a", "1x9 0x60"),
    **requests("0+100x70"),
    **fallbacks("0x9 1+1x60", reason="overloaded"),
    **fallbacks("0x9 99+99x60", reason="cooldown"),
    **attempts("0+100x9 900x60"),
    **attempts("0x9 12+12x60", "overloaded"),
    **attempts("0x9 100+100x60", provider="anthropic"),
}
"""A route loses all its deployments, and its fallback at another provider serves everybody."""
BOTH_AWAY = {
    **up("a", "1x9 0x60"),
    **up("b", "1x19 0x60", route="backup"),
    **requests("0+100x19 1900x60"),
    **requests("0x19 100+100x60", error="cooldown"),
    **fallbacks("0x9 100+100x9 1000x60"),
}
"""Ten minutes later the fallback is down too."""

CASES = [
    Case(
        STORM,
        "a tenth is normal for a provider's bad minutes",
        {**requests("0+100x60"), **fallbacks("0+10x60")},
        {10: [], 60: []},
    ),
    Case(STORM, "a few at night", {**requests("0+1x60"), **fallbacks("0+1x60")}, {10: [], 60: []}),
    Case(
        STORM,
        "half of a route",
        {**requests("0+10x60"), **fallbacks("0x9 5+5x60")},
        {13: [], 14: [storm("50%")], 20: [storm("50%")]},
    ),
    Case(
        STORM,
        "it resolves when requests stay on their route",
        {**requests("0+10x60"), **fallbacks("0x9 5+5x9 50x60")},
        {19: [storm("50%")], 26: [storm("25%")], 27: []},
    ),
    Case(
        STORM,
        "a gap of scrapes",
        {**requests("0+10x14 _x3 180+10x60"), **fallbacks("0x9 5+5x4 _x3 45+5x60")},
        {14: [storm("50%")], 16: [storm("50%")], 20: [storm("50%")]},
    ),
    Case(
        STORM,
        "counters that restart are not a storm",
        {**requests("0+10x19 0+10x60"), **fallbacks("300x19 0x60")},
        {19: [], 22: [], 30: []},
    ),
    Case(
        STORM,
        "two routes at once",
        {
            **requests("0+10x60"),
            **requests("0+10x60", "code"),
            **requests("0+10x60", "quiet"),
            **fallbacks("0x9 5+5x60"),
            **fallbacks("0x9 10+10x60", "code"),
        },
        {20: [storm("50%"), storm("100%", "code")]},
    ),
    Case(
        STORM,
        "a long outage: few fail, and all go elsewhere while the route is in cooldown",
        {
            **requests("0+100x60"),
            **fallbacks("0x9 1+1x60", reason="server_error"),
            **fallbacks("0x9 99+99x60", reason="cooldown"),
        },
        {12: [], 13: [storm("80%")], 14: [storm("100%")], 20: [storm("100%")], 60: [storm("100%")]},
    ),
    Case(
        STORM,
        "long prompts with their own route, and models with exhausted budgets, are not a storm",
        {
            **requests("0+100x60"),
            **fallbacks("0+40x60", reason="context_window_exceeded"),
            **fallbacks("0+40x60", reason="budget_exceeded"),
        },
        {10: [], 60: []},
    ),
    Case(
        STORM,
        "a route that passes on fallbacks from another counts as 100 % at most",
        {
            **requests("0+100x60"),
            **requests("0+10x60", "code"),
            **fallbacks("0x9 100+100x60"),
            **fallbacks("0x9 110+110x60", "code"),
        },
        {20: [storm("100%"), storm("100%", "code")]},
    ),
    Case(
        STORM,
        "a route whose fallback serves everybody",
        SERVED,
        {12: [], 13: [storm("80%")], 60: [storm("100%")]},
    ),
    Case(STORM, "no data at all", {}, {0: [], 30: []}),
    Case(
        BURN,
        "within the objective",
        {**attempts("0+995x90"), **attempts("0+5x90", "timeout")},
        {5: [], 90: []},
    ),
    Case(
        BURN,
        "an outage that callers notice pages within minutes",
        {
            **attempts("0+10x60 600x60"),
            **attempts("0x60 10+10x60", "overloaded"),
            **requests("0+10x60 600x60"),
            **requests("0x60 10+10x60", error="overloaded"),
        },
        {
            64: [],
            65: [burn("4.8%", "ticket")],
            67: [burn("7.752%", "ticket")],
            68: [burn("9.16%", "page"), burn("9.16%", "ticket")],
            73: [burn("18.49%", "page"), burn("15.6%", "ticket")],
        },
    ),
    Case(
        BURN,
        "a slow leak is a ticket, not a page",
        {
            **attempts("0+96x90"),
            **attempts("0+4x90", "server_error"),
            **requests("0+96x90"),
            **requests("0+4x90", error="server_error"),
        },
        {6: [], 7: [burn("4%", "ticket")], 90: [burn("4%", "ticket")]},
    ),
    Case(
        BURN,
        "retries that serve all but one in a hundred callers do not page",
        {
            **attempts("0+50x90"),
            **attempts("0+50x90", "rate_limited"),
            **requests("0+99x90"),
            **requests("0+1x90", error="rate_limited"),
        },
        {10: [burn("50%", "ticket")], 90: [burn("50%", "ticket")]},
    ),
    Case(
        BURN,
        "callers' own mistakes do not count as noticed failures",
        {
            **attempts("0+50x90"),
            **attempts("0+50x90", "rate_limited"),
            **requests("0+50x90"),
            **requests("0+50x90", error="invalid_request"),
        },
        {10: [burn("50%", "ticket")], 90: [burn("50%", "ticket")]},
    ),
    Case(
        BURN,
        "a small failing route is detected next to a large healthy one",
        {
            **attempts("0+1000x90"),
            **attempts("0+5x90", "timeout", "anthropic"),
            **requests("0+1000x90"),
            **requests("0x90", "code"),
            **requests("0+5x90", "code", "cooldown"),
        },
        {10: [burn("100%", severity, "anthropic") for severity in ("page", "ticket")]},
    ),
    Case(
        BURN,
        "callers that get occasional errors are one page",
        {
            **attempts("0+50x200"),
            **attempts("0+50x200", "timeout"),
            **requests("0+50x200"),
            **requests("0x9 5x11 10x100", error="timeout"),
        },
        {
            11: [burn("50%", "ticket")],
            12: [burn("50%", "page"), burn("50%", "ticket")],
            18: [burn("50%", "page"), burn("50%", "ticket")],
            39: [burn("50%", "page"), burn("50%", "ticket")],
            42: [burn("50%", "ticket")],
        },
    ),
    Case(
        BURN,
        "callers' mistakes are not the provider's",
        {
            **attempts("0+10x90"),
            **attempts("0+9x90", "invalid_request"),
            **attempts("0+9x90", "cancelled"),
        },
        {10: [], 90: []},
    ),
    Case(
        BURN,
        "three failures at night are not evidence",
        {**attempts("0x10 3x90"), **attempts("0x10 3x90", "timeout")},
        {15: [], 60: []},
    ),
    Case(
        BURN,
        "a stack's first hour: one failure in sixty is not evidence either",
        {**attempts("0+1x90"), **attempts("0x20 1x90", "timeout")},
        {30: [], 60: [], 90: []},
    ),
    Case(
        BURN,
        "counters that restart",
        {**attempts("0+100x30 0+100x60"), **attempts("500x30 0x60", "timeout")},
        {31: [], 35: [], 60: []},
    ),
    Case(
        BURN,
        "two providers, one of them healthy",
        {
            **attempts("0+50x90"),
            **attempts("0+50x90", "rate_limited"),
            **attempts("0+100x90", provider="anthropic"),
            **requests("0+50x90", error="rate_limited"),
        },
        {10: [burn("50%", severity) for severity in ("page", "ticket")]},
    ),
    Case(
        BURN,
        "what applications count on their way to the gateway hides nothing",
        {
            **attempts("0+80x90"),
            **attempts("0+20x90", "timeout"),
            **attempts("0+400x90", source=VIA_GATEWAY),
            **attempts("0+400x90", source="application"),
            **requests("0+20x90", error="timeout"),
        },
        {10: [burn("20%", severity) for severity in ("page", "ticket")]},
    ),
    Case(
        BURN,
        "a collector without a source label hides nothing, and applications' errors are not a provider's",
        {
            **attempts("0+80x90", source=""),
            **attempts("0+20x90", "timeout", source=""),
            **attempts("0+50x90", "timeout", "anthropic", "application"),
            **requests("0+20x90", error="timeout"),
        },
        {10: [burn("20%", severity) for severity in ("page", "ticket")]},
    ),
    Case(
        BURN,
        "a route whose fallback serves everybody",
        SERVED,
        {15: [burn("5.345%", "ticket")], 60: [burn("40.89%", "ticket")]},
    ),
    Case(BURN, "no data at all", {}, {0: [], 60: []}),
    Case(DOWN, "one of two", {**up("a", "1x9 0x60"), **up("b", "1x60")}, {12: [], 60: []}),
    Case(
        DOWN,
        "all of a route",
        {**up("a", "1x9 0x60"), **up("b", "1x8 0x60"), **up("c", "1x60", route="code")},
        {11: [], 12: [down()]},
    ),
    Case(
        DOWN,
        "a deployment up for a moment between two cooldowns is down",
        {**up("a", "1x9 0x3 0x60")},
        {11: [], 12: [down()], 30: [down()]},
    ),
    Case(
        DOWN,
        "another gateway can still use them",
        {**up("a", "1x9 0x60"), **up("a", "1x60", "g2")},
        {12: [], 30: []},
    ),
    Case(
        DOWN,
        "every gateway, and a gap in scrapes",
        {**up("a", "1x9 0x10 _x2 0x60"), **up("a", "1x9 0x60", "g2")},
        {12: [down()], 21: [down()], 30: [down()]},
    ),
    Case(
        DOWN,
        "two routes at once",
        {**up("a", "1x9 0x60"), **up("b", "1x9 0x60", route="code")},
        {11: [], 12: [down(), down("code")]},
    ),
    Case(
        DOWN,
        "it resolves when one is used again for a while, not between two cooldowns",
        up("a", "1x9 0x20 1x2 0x10 1x60"),
        {12: [down()], 32: [down()], 34: [down()], 49: [down()], 50: [], 60: []},
    ),
    Case(DOWN, "a route whose fallback serves everybody", SERVED, {11: [], 12: [], 13: [], 60: []}),
    Case(
        DOWN,
        "a route whose fallback goes down too",
        BOTH_AWAY,
        {21: [], 22: [down("backup")], 23: [down("backup")], 24: [down("backup"), down()]},
    ),
    Case(
        DOWN,
        "a route that falls back by design does not serve the others",
        {**up("a", "1x9 0x60"), **fallbacks("0+1x60", reason="context_window_exceeded")},
        {12: [down()]},
    ),
    Case(DOWN, "no data at all", {}, {0: [], 30: []}),
    Case(SLOW, "one in twenty-five waits", streams(FINE), {15: [], 60: []}),
    Case(SLOW, "too few streams to tell", streams(FEW), {15: [], 60: []}),
    Case(
        SLOW, "one in ten waits", streams(LATE), {10: [], 11: [slow("7.68s")], 60: [slow("7.68s")]}
    ),
    Case(
        SLOW,
        "two models at once, one of them healthy",
        {**streams(LATE), **streams(LATE, "sonnet"), **streams(FINE, "haiku")},
        {10: [], 11: [slow("7.68s"), slow("7.68s", "sonnet")]},
    ),
    Case(
        SLOW,
        "counters that restart",
        streams({le: v.replace("x90", "x30") + " " + v for le, v in FINE.items()}),
        {31: [], 45: [], 60: []},
    ),
    Case(
        SLOW,
        "applications' own wide buckets do not make a model look slow",
        {**streams(FINE), **streams(COARSE, source=VIA_GATEWAY)},
        {11: [], 60: []},
    ),
    Case(
        SLOW,
        "fast answers that applications got elsewhere do not hide a slow model",
        {**streams(LATE), **streams({"5": "0+900x90", "+Inf": "0+900x90"}, source="application")},
        {10: [], 11: [slow("7.68s")]},
    ),
    Case(SLOW, "no data at all", {}, {0: [], 30: []}),
]

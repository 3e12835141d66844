"""`spanledger keys import`: LiteLLM's rows as its database and its API give them away."""

from __future__ import annotations

import getpass
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from typer.testing import CliRunner

from spanledger.cli import app
from spanledger.ledger.keys import key_digest
from tests.support import postgres
from tests.support.ledgers import store_at

SCHEMA = """
CREATE TABLE "LiteLLM_VerificationToken" (
    token text NOT NULL PRIMARY KEY, key_name text, key_alias text,
    soft_budget_cooldown boolean NOT NULL DEFAULT false, spend double precision NOT NULL DEFAULT 0.0,
    expires timestamp(3), models text[], aliases jsonb NOT NULL DEFAULT '{}',
    config jsonb NOT NULL DEFAULT '{}', router_settings jsonb DEFAULT '{}', user_id text, team_id text,
    agent_id text, project_id text, permissions jsonb NOT NULL DEFAULT '{}',
    max_parallel_requests integer, metadata jsonb NOT NULL DEFAULT '{}', blocked boolean,
    tpm_limit bigint, rpm_limit bigint, max_budget double precision, budget_duration text,
    budget_reset_at timestamp(3), allowed_cache_controls text[] DEFAULT '{}',
    allowed_routes text[] DEFAULT '{}', policies text[] DEFAULT '{}',
    model_spend jsonb NOT NULL DEFAULT '{}', model_max_budget jsonb NOT NULL DEFAULT '{}',
    budget_id text, organization_id text, created_at timestamp(3) DEFAULT CURRENT_TIMESTAMP,
    rotation_count integer DEFAULT 0, auto_rotate boolean DEFAULT false, budget_limits jsonb);
CREATE TABLE "LiteLLM_TeamTable" (
    team_id text NOT NULL PRIMARY KEY, team_alias text, models text[], max_budget double precision);
CREATE TABLE "LiteLLM_BudgetTable" (
    budget_id text NOT NULL PRIMARY KEY, max_budget double precision, soft_budget double precision,
    budget_duration text);
"""


def hashed(key: str) -> str:
    """As LiteLLM's `hash_token`."""
    return hashlib.sha256(key.encode()).hexdigest()


ROWS: list[dict[str, Any]] = [
    {
        "token": hashed("sk-plain"),
        "key_name": "sk-...lain",
        "key_alias": "plain",
        "spend": 12.5,
        "models": [],
        "user_id": "default_user_id",
        "organization_id": "acme",
    },
    {
        "token": hashed("sk-full"),
        "key_alias": 'full, "quoted" ünal',
        "models": ["gpt-4o", "claude sonnet", 'a"b', "c\\d"],
        "user_id": "ada@example.com",
        "team_id": "t-1",
        "expires": "2199-01-31 09:30:00",
        "metadata": {"tags": ["nightly", "b,c"], "cost_center": "42", "guardrails": ["pii"]},
        "max_budget": 100.1,
        "budget_duration": "30d",
        "spend": 3,
        "rpm_limit": 60,
        "model_max_budget": {"gpt-4o": {"budget_limit": "0.5", "time_period": "1d"}},
        "organization_id": "acme",
    },
    {
        "token": hashed("sk-lifetime"),
        "key_alias": "lifetime",
        "models": ["all-team-models"],
        "team_id": "t-1",
        "max_budget": 10,
        "spend": 9.25,
    },
    {
        "token": hashed("sk-shared"),
        "key_alias": "shared",
        "models": ["all-proxy-models"],
        "budget_id": "b-1",
        "allowed_routes": ["llm_api_routes"],
        "budget_limits": [{"budget_duration": "24h", "max_budget": 2}],
    },
    {"token": hashed("sk-ui"), "team_id": "litellm-dashboard", "models": []},
    {"token": hashed("sk-blocked"), "key_alias": "blocked", "blocked": True},
    {"token": hashed("sk-old"), "key_alias": "old", "expires": "2020-01-01 00:00:00"},
    {"token": hashed("sk-admin"), "key_alias": "adm", "allowed_routes": ["management_routes"]},
]
TEAMS = [
    {"team_id": "t-1", "team_alias": "red", "models": ["gpt-4o", "claude sonnet", 'a"b', "c\\d"]}
]
BUDGETS = [{"budget_id": "b-1", "max_budget": 20.0, "soft_budget": 15.0, "budget_duration": "7d"}]


class Litellm:
    """A database with these rows, and what people make of it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self._folder = folder
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(SCHEMA.encode())
            tables = (
                ("LiteLLM_VerificationToken", ROWS),
                ("LiteLLM_TeamTable", TEAMS),
                ("LiteLLM_BudgetTable", BUDGETS),
            )
            for table, rows in tables:
                for row in rows:
                    names = ", ".join(row)
                    query = f'INSERT INTO "{table}" ({names}) SELECT {names} FROM'
                    query += f' jsonb_populate_record(null::"{table}", %s::jsonb)'
                    connection.execute(query.encode(), (json.dumps(row),))

    def export(self, kind: str) -> tuple[str, ...]:
        """A file of this kind, and what else has to be said."""
        if kind == "dump":
            return (str(self._dump()),)
        keys = self._written("LiteLLM_VerificationToken", kind)
        teams = self._written("LiteLLM_TeamTable", kind)
        return (str(keys), "--teams", str(teams), "--ignore", "budget_id")

    def _dump(self) -> Path:
        path = self._folder / "litellm.sql"
        server = postgres.server()
        done = server.run("pg_dump", "--no-owner", "-U", getpass.getuser(), "-d", self.url)
        path.write_text(done.stdout)
        return path

    def _written(self, table: str, kind: str) -> Path:
        path = self._folder / f"{table}.{kind}"
        with psycopg.connect(self.url) as connection:
            if kind == "csv":
                with connection.cursor().copy(
                    f'COPY "{table}" TO STDOUT CSV HEADER'.encode()
                ) as copy:
                    path.write_bytes(b"".join(bytes(part) for part in copy))
                return path
            found = "json_agg(t)" if kind == "json" else "row_to_json(t)"
            rows = connection.execute(f'SELECT {found}::text FROM "{table}" t'.encode())
            path.write_text("\n".join(text for (text,) in rows))
        return path


@pytest.fixture(scope="module")
def litellm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Litellm]:
    """LiteLLM's tables in a real database."""
    url = postgres.new_ledger_url()
    yield Litellm(url, tmp_path_factory.mktemp("exports"))
    postgres.server().sql(f'DROP DATABASE "{urlsplit(url).path[1:]}" WITH (FORCE)')


class Imports:
    """Imports into a ledger of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "ledger.db"

    def run(self, *words: str, code: int = 0) -> str:
        """Stdout, or stderr of a failure."""
        command = ["keys", "import", *words, "--ledger", f"sqlite:///{self.file}"]
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert result.exit_code == code, result.stderr
        return result.stderr if code else result.stdout

    def rows(self, *rows: dict[str, Any], text: str = "", name: str = "keys.json") -> str:
        """A file of keys."""
        path = self.folder / name
        path.write_text(text or json.dumps(rows))
        return str(path)

    def list(self, what: str) -> list[Any]:
        """`keys` or `budget`."""
        words = [what, "list", "--json", "--ledger", f"sqlite:///{self.file}"]
        found: list[Any] = json.loads(CliRunner().invoke(app, words).stdout)
        return found


@pytest.fixture
def imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Imports:
    """In a folder without a configuration."""
    monkeypatch.chdir(tmp_path)
    return Imports(tmp_path)


WHOSE = ("--customer-from", "organization_id", "--customer", "others")


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "dump"])
def test_each_kind_of_export_gives_the_same_keys(
    litellm: Litellm, imports: Imports, kind: str
) -> None:
    """From a real database: names, routes, teams, users, tags, ends and budgets, by LiteLLM's hash."""
    report = json.loads(imports.run(*litellm.export(kind), *WHOSE, "--json"))

    keys = {key["name"]: key for key in imports.list("keys")}
    assert set(keys) == {"plain", 'full, "quoted" ünal', "lifetime", "shared"}
    plain, full = keys["plain"], keys['full, "quoted" ünal']
    assert (plain["customer"], plain["routes"], plain["default_user"]) == ("acme", [], None)
    assert full["routes"] == ["gpt-4o", "claude sonnet", 'a"b', "c\\d"]
    assert (full["team"], full["default_user"]) == ("red", "ada@example.com")
    assert full["expires_at"] == "2199-01-31T09:30:00.000Z"
    assert full["tags"] == ["nightly", "b,c"]
    assert full["metadata"] == {"cost_center": "42"}
    assert keys["lifetime"]["routes"] == full["routes"]
    assert keys["lifetime"]["customer"] == keys["shared"]["customer"] == "others"
    assert keys["shared"]["routes"] == []
    budgets = {b["name"].removeprefix("key-"): b for b in imports.list("budget")}
    shown = {name: (b["scope"], b["limit_usd"], b["period"]) for name, b in budgets.items()}
    expected = {
        'full, "quoted" ünal': ("key", "100.10", "month"),
        'full, "quoted" ünal-gpt-4o': ("key,route", "0.50", "day"),
        "lifetime": ("key", "0.75", "once"),
        "shared-24h": ("key", "2.00", "day"),
    }
    if kind == "dump":
        expected["shared"] = ("key", "20.00", "week")
        assert budgets["shared"]["thresholds"] == [75]
    assert shown == expected
    assert budgets["lifetime"]["subject"] == keys["lifetime"]["id"]
    assert {each["why"] for each in report["skipped"]} == {
        "a session of LiteLLM's own pages",
        "it is blocked",
        "it expired on 2020-01-01 00:00 UTC",
        "it is only for LiteLLM's management",
    }
    assert report["not_read"] == {"metadata.guardrails": 1, "rpm_limit": 1}
    with store_at(imports.file).records("read") as records:
        for secret, name in (("sk-plain", "plain"), ("sk-shared", "shared")):
            found = records.find_key(key_digest(secret))
            assert found is not None
            assert found.key.name == name
        assert records.find_key(key_digest("sk-blocked")) is None
        change = records.key_history()[0]
    assert (change.change, change.by.way) == ("import", "file")


def test_a_dry_run_says_the_same_and_writes_nothing(litellm: Litellm, imports: Imports) -> None:
    """Also nothing that was taken meanwhile goes unnoticed; a second import finds all of it there."""
    words = (*litellm.export("dump"), *WHOSE)
    dry = imports.run(*words, "--dry-run")
    assert "4 would be imported, 0 already here, 4 left out" in dry
    assert not imports.file.exists()
    assert "4 imported, 0 already here" in imports.run(*words)
    before = imports.list("keys"), imports.list("budget")
    for more in ((), ("--dry-run",)):
        assert "imported, 4 already here, 4 left out" in imports.run(*words, *more)
    assert (imports.list("keys"), imports.list("budget")) == before


def test_a_name_that_is_taken_stops_all(litellm: Litellm, imports: Imports) -> None:
    """Names and budgets that are there are listed together, in a dry run as well."""
    with store_at(imports.file).records("create") as records:
        pass
    other = ["keys", "create", "--customer", "x", "--name", "plain"]
    assert CliRunner().invoke(app, [*other, "--ledger", f"sqlite:///{imports.file}"]).exit_code == 0
    taken = [
        "budget",
        "set",
        "key-lifetime",
        "--limit",
        "1",
        "--ledger",
        f"sqlite:///{imports.file}",
    ]
    assert CliRunner().invoke(app, taken).exit_code == 0
    for more in ((), ("--dry-run",)):
        said = imports.run(*litellm.export("dump"), *WHOSE, *more, code=2)
        assert "the name 'plain' is taken by key_" in said
        assert "there is a budget 'key-lifetime' already" in said
    with store_at(imports.file).records("read") as records:
        assert len(records.keys()) == 1


def good(number: int, **more: Any) -> dict[str, Any]:
    """A row without mistakes."""
    return {"token": hashed(f"sk-{number}"), "key_alias": f"k{number}", "models": [], **more}


def test_all_mistakes_are_listed_at_once(imports: Imports) -> None:
    """Each with its row; no value that may be a secret is repeated, and nothing is written."""
    secret = "sk-not-hashed-at-all"
    rows = [
        good(1, token=secret),
        good(2, aliases={"gpt-4": "x"}, config={"a": 1}),
        good(3, allowed_routes=["/chat/completions"]),
        good(4, budget_id="b-9"),
        good(5, models=["all-team-models"], team_id="t-9"),
        good(6, max_budget="lots", expires="soon"),
        good(7, max_budget=5, budget_duration="3mo"),
        good(8, models="gpt", metadata=[1]),
        good(9, token=hashed("sk-2")),
        good(10, key_alias="k3"),
        good(11, key_alias="slk_x"),
        good(12, key_alias="tick`"),
        good(13, model_max_budget={"m": {"budget_limit": -1, "time_period": "1d"}}),
    ]
    said = imports.run(imports.rows(*rows), "--customer", "acme", code=2)
    for text in (
        "row 1 (k1): token: it must be LiteLLM's hash, 64 hex digits",
        "row 2 (k2): aliases: the key gives models other names",
        "--ignore aliases",
        "row 2 (k2): config: ",
        "row 3 (k3): allowed_routes: the key may call some paths only",
        "row 4 (k4): budget_id: 'b-9' is a row of LiteLLM_BudgetTable",
        "row 5 (k5): models: 'all-team-models': give the teams",
        "row 6 (k6): max_budget: expected a number of USD",
        "row 6 (k6): expires: expected a moment",
        "row 7 (k7): max_budget: budget_duration: LiteLLM resets no budget after '3mo'",
        "row 8 (k8): models: ",
        "row 8 (k8): metadata: expected an object",
        "row 11 (slk_x): key_alias: a key's name must not begin with 'slk_'",
        "backtick",
        "row 13 (k13): model_max_budget.m.budget_limit: expected a number of USD, at least 0",
    ):
        assert text in said, text
    assert secret not in said
    assert "Traceback" not in said
    assert not imports.file.exists()


def test_repeated_keys_and_names_are_mistakes(imports: Imports) -> None:
    """A hash opens one key."""
    rows = [good(1), good(2), good(3, token=hashed("sk-1")), good(4, key_alias="k2")]
    said = imports.run(imports.rows(*rows), "--customer", "acme", code=2)
    assert "row 3 (k3): token: is also that of row 1 (k1)" in said
    assert "row 4 (k2): key_alias: 'k2' is also that of row 2 (k2)" in said


def test_what_decides_can_be_left_out_on_purpose(imports: Imports) -> None:
    """Then it is reported as not read."""
    rows = imports.rows(good(1, aliases={"a": "b"}, budget_id="b-9", tpm_limit=5))
    words = (rows, "--customer", "acme", "--ignore", "aliases", "--ignore", "budget_id", "--json")
    assert json.loads(imports.run(*words))["not_read"] == {"aliases": 1, "tpm_limit": 1}
    said = imports.run(rows, "--customer", "acme", "--ignore", "expires", code=2)
    assert "'expires' is none of aliases" in said


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.json", "{", "it is not JSON"),
        ("a.json", '["sk-1"]', "/key/list?return_full_object=true"),
        ("a.json", "[]", "there are no rows of LiteLLM_VerificationToken"),
        ("a.csv", "token\nx\n", "its first line must name the columns"),
        ("a.csv", "token,key_alias\nx\n", "row 1 has not as many values"),
        ("a.csv", "", "its first line must name the columns"),
        ("a.sql", 'INSERT INTO "LiteLLM_VerificationToken" VALUES (1)', "let pg_dump write COPY"),
        (
            "a.sql",
            'COPY public."T" (a, b) FROM stdin;\n1\n\\.\n',
            "T: row 1 is not what its COPY says",
        ),
    ],
)
def test_a_file_that_is_none(imports: Imports, name: str, text: str, problem: str) -> None:
    """One line that says how to export."""
    path = imports.folder / name
    path.write_text(text)
    said = imports.run(str(path), "--customer", "acme", code=2)
    assert problem in said
    assert said.count("\n") == 1


def test_a_file_that_is_not_there_or_is_binary(imports: Imports) -> None:
    """Neither is a traceback."""
    binary = imports.folder / "a.bin"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (str(binary), str(imports.folder / "absent")):
        assert "cannot be read as text" in imports.run(path, "--customer", "acme", code=2)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ((), "whose keys are they?"),
        (("--customer-from", "owner"), "'owner' is none of organization_id"),
        (("--customer-from", "team_id"), "row 1 (k1): nothing says which customer pays"),
        (("--customer-from", "metadata.org"), "row 1 (k1): nothing says which customer pays"),
    ],
)
def test_each_key_needs_a_customer(
    imports: Imports, options: tuple[str, ...], problem: str
) -> None:
    """Nobody pays for a key without one."""
    assert problem in imports.run(imports.rows(good(1)), *options, code=2)


def test_the_customer_may_be_in_the_metadata(imports: Imports) -> None:
    """As many have it who resell."""
    rows = imports.rows(good(1, metadata={"org": "acme"}), good(2))
    imports.run(rows, "--customer-from", "metadata.org", "--customer", "rest")
    assert [key["customer"] for key in imports.list("keys")] in (["acme", "rest"], ["rest", "acme"])


def test_a_keys_models_and_its_teams_apply_both(imports: Imports) -> None:
    """LiteLLM checks both; a key whose team may use none of its models cannot be meant."""
    teams = imports.folder / "teams.json"
    teams.write_text(json.dumps([{"team_id": "t", "team_alias": "red", "models": ["a", "b"]}]))
    rows = imports.rows(
        good(1, team_id="t", models=["b", "c"]), good(2, team_id="t", models=["all-proxy-models"])
    )
    imports.run(rows, "--customer", "acme", "--teams", str(teams))
    assert {key["name"]: key["routes"] for key in imports.list("keys")} == {
        "k1": ["b"],
        "k2": ["a", "b"],
    }
    wrong = imports.rows(good(3, team_id="t", models=["c"]), name="wrong.json")
    said = imports.run(wrong, "--customer", "acme", "--teams", str(teams), code=2)
    assert "row 1 (k3): models: its team may use none of c" in said


def test_a_far_end_is_an_end(imports: Imports) -> None:
    """People write the last day that they can; a ledger's times end in 2262."""
    imports.run(imports.rows(good(1, expires="9999-12-31T23:59:59Z")), "--customer", "acme")
    assert imports.list("keys")[0]["expires_at"].startswith("2262")


def test_routes_are_compared_with_a_configuration(imports: Imports) -> None:
    """A model of LiteLLM's that has no route here is refused before anything is written."""
    (imports.folder / "spanledger.yaml").write_text(
        "model_list: [{model_name: gpt-4o, litellm_params: {model: openai/gpt-4o, api_key: x}}]"
    )
    rows = imports.rows(good(1, models=["gpt-4o"]), good(2, models=["beta-models"]))
    said = imports.run(rows, "--customer", "acme", code=2)
    assert "no deployment has model_name 'beta-models'" in said
    assert not imports.file.exists()


def test_an_answer_of_the_api_is_read(imports: Imports) -> None:
    """`/key/list?return_full_object=true` has the keys in an object, each with its budget."""
    table = {"budget_id": "b", "max_budget": 3.0, "budget_duration": "1d"}
    answer = {
        "keys": [good(1, budget_id="b", litellm_budget_table=table), good(2, soft_budget=4)],
        "total_count": 2,
        "current_page": 1,
    }
    imports.run(imports.rows(text=json.dumps(answer)), "--customer", "acme")
    shown = {b["name"]: (b["limit_usd"], b["period"], b["action"]) for b in imports.list("budget")}
    assert shown == {
        "key-k1": ("3.00", "day", "block"),
        "key-k2-soft": ("4.00", "once", "warn"),
    }

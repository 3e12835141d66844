"""The pages are correct: commands, options, targets, settings, versions and examples exist.

The command line is walked as it is built, and every command a page shows is parsed by it.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
import yaml
from pydantic import BaseModel

import spanledger
from spanledger import config
from spanledger.budgets.accounts import Account, AccountKey, Balance, decide
from spanledger.budgets.model import Budget
from spanledger.cli import app
from spanledger.config.notices import KINDS as NOTICE_KINDS
from spanledger.config.notices import NoticeDestination
from spanledger.errors import BudgetExceededError
from spanledger.money import format_usd, parse_usd
from spanledger.pricing.book import PriceBook
from spanledger.pricing.demand import Demand
from spanledger.pricing.media import IMAGE_TOKENS, LOW_DETAIL_TOKENS, bound_input
from spanledger.routing.hold import output_bought, sizes_of
from spanledger.routing.plan import Plan
from spanledger.wires.bounds import BUILT_IN_TOOL_TOKENS, UNBOUNDED

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path
    for folder, pattern in (
        ("", "*.md"),
        ("docs", "**/*.md"),
        ("bench", "*.md"),
        ("helm", "**/*.md"),
    )
    for path in (ROOT / folder).glob(pattern)
)
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""The pages that describe what is; the changelog also names what was."""
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
FENCE = re.compile(r"^```(?P<lang>\w*)[^\n]*\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = ("sh", "bash", "console", "shell")
SHELL_ENDS = ("|", "||", ">", ">>", "<", "&&", ";", "&", "2>&1")
COMMAND = re.compile(
    r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:uvx --from \. |uv run |\.venv/bin/)?(spanledger\s.+)$"
)
PICTURE_BYTES_MAX = 300_000
GENERATORS = sorted((ROOT / "tools").glob("generate_*.py"))


class Everything(dict[str, str]):
    """An environment in which every variable that a file names is set."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return "set"

    def get(self, name: str, default: Any = None) -> Any:
        """What must have a form of its own, has it."""
        return FORMED.get(name, default)


FORMED = {
    "NOTICE_SECRET": f"whsec_{'A' * 32}",
    "SLACK_WEBHOOK_URL": "https://hooks.example.com/x",
    "SMTP_PASSWORD": "set",
    "METERING_AUTHORIZATION": "set",
}
"""Variables of the pages that the section `notices` refers to."""


class Shown(NamedTuple):
    """A command as a page shows it."""

    page: str
    text: str
    whole: bool
    """Whether it is in a shell block and can be run as written. Inline text may be a fragment."""


def shown_commands() -> Iterator[Shown]:
    """Every `spanledger …` of every page."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for fence in FENCE.finditer(text):
            if fence["lang"] in SHELL:
                lines = fence["body"].replace("\\\n", " ").splitlines()
                for part in (part.strip() for line in lines for part in re.split("&&|;", line)):
                    if found := COMMAND.match(part):
                        yield Shown(page.name, found[1], True)
        for code in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)):
            if code.startswith("spanledger "):
                yield Shown(page.name, code, False)
    for file in sorted((ROOT / "examples").iterdir()):
        for line in file.read_text(encoding="utf-8").splitlines():
            if found := re.match(r"(?:#   |ExecStart=\S*/)(spanledger .+)", line):
                yield Shown(file.name, found[1], True)


def words_of(text: str) -> list[str]:
    """The words of one command, without shell syntax."""
    words = shlex.split(text.replace("[", " ").replace("]", " "), comments=True)
    ends = [index for index, word in enumerate(words) if word in SHELL_ENDS]
    return words[1 : ends[0] if ends else None]


def problem_with(shown: Shown) -> str | None:
    """The command line's error for a command, or None."""
    command: Any = typer.main.get_command(app)
    words = words_of(shown.text)
    path = ["spanledger"]
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        name = words.pop(0)
        names = name.split("|")
        if missing := [n for n in names if n not in command.commands]:
            return f"no command {' '.join(path)} {missing[0]}"
        path.append(name)
        command = command.commands[names[0]]
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
    flags = [word.partition("=")[0] for word in words if word.startswith("-") and word != "-"]
    if unknown := [flag for flag in flags if flag not in known]:
        return f"{' '.join(path)} has no {unknown[0]}"
    if not shown.whole or "--help" in flags:
        return None
    if hasattr(command, "commands"):
        return None if flags else f"{' '.join(path)} lacks its subcommand"
    return lacks(command, words, " ".join(path))


def lacks(command: Any, words: list[str], name: str) -> str | None:
    """A required argument or value that a complete command leaves out."""
    context = command.context_class(command)
    try:
        given, rest, _ = command.make_parser(context).parse_args(list(words))
    except Exception as error:  # noqa: BLE001 - the vendored parser's errors have no public name
        return f"{name}: {error}"
    if rest:
        return f"{name} takes no {rest[0]!r}"
    missing = [p.name for p in command.params if p.required and not given.get(p.name)]
    return f"{name} needs {missing[0]}" if missing else None


def test_every_command_shown_exists() -> None:
    """A command in a page has its subcommands, its flags and what it requires."""
    problems = [
        f"{shown.page}: `{shown.text}`: {problem}"
        for shown in shown_commands()
        if (problem := problem_with(shown))
    ]

    assert problems == []


def test_a_wrong_command_is_seen() -> None:
    """The check above distinguishes valid commands from invalid ones."""
    bad = ("spanledger fly", "spanledger demo --fast", "spanledger gateway extra words")

    assert [problem_with(Shown("", text, True)) is None for text in bad] == [False] * len(bad)
    assert problem_with(Shown("", "spanledger demo --json | jq .", True)) is None


def targets() -> dict[str, str]:
    """The make targets and their descriptions in `make help`."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9-]+):.*?## (.+)$", text, flags=re.MULTILINE))


def test_every_make_target_shown_exists() -> None:
    """`make something` in a page is a target, and every target is in CONTRIBUTING.md."""
    shown = {
        (page.name, target)
        for page in PAGES
        for block in re.findall(r"```.*?```|`[^`\n]+`", page.read_text(encoding="utf-8"), re.DOTALL)
        for target in re.findall(r"(?:^|[`\s])make ([a-z][a-z0-9-]*)", block)
    }
    contributing = {target for page, target in shown if page == "CONTRIBUTING.md"}

    assert {(page, target) for page, target in shown if target not in targets()} == set()
    assert set(targets()) - contributing == set()


def test_every_picture_of_a_page_is_there_and_light() -> None:
    """A page names pictures of the repository, each with a text for who does not see it."""
    named: set[Path] = set()
    for page in PAGES:
        text = page.read_text("utf-8")
        shown = re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", text)
        shown += [(alt, src) for src, alt in re.findall(r'<img src="([^"]+)" alt="([^"]*)"', text)]
        assert [src for alt, src in shown if not alt] == []
        sources = [src for _, src in shown] + re.findall(r'srcset="([^"]+)"', text)
        named |= {page.parent / source for source in sources}

    assert {path for path in named if path.stat().st_size > PICTURE_BYTES_MAX} == set()
    assert set((ROOT / "docs" / "images").iterdir()) == named


def test_tools_are_run_by_a_python_that_can() -> None:
    """A page that runs a tool with the machine's Python names one that needs no packages."""
    shown = {
        tool
        for page in PAGES
        for tool in re.findall(r"(?<![/\w.])python3? (tools/\w+\.py)", page.read_text("utf-8"))
    }
    load = (
        "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='tool')"
    )

    for tool in sorted(shown):
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", load, str(ROOT / tool)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (tool, done.returncode, done.stderr) == (tool, 0, "")


def test_tools_accept_the_arguments_shown() -> None:
    """A page that calls a tool gives it the arguments that it requires, and none it does not have."""
    shown = {
        command
        for page in CURRENT
        for command in re.findall(r"python3? (tools/\w+\.py[^`\n]*)", page.read_text("utf-8"))
        if "ArgumentParser" in (ROOT / command.split()[0]).read_text(encoding="utf-8")
    }
    load = (
        "import argparse, runpy, sys\n"
        "real = argparse.ArgumentParser.parse_args\n"
        "argparse.ArgumentParser.parse_args = lambda *given: (real(*given), sys.exit(0))\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )

    assert shown
    for command in sorted(shown):
        words = [str(ROOT / command.split()[0]), *words_of(command)]
        done = subprocess.run(
            [sys.executable, "-c", load, *words], capture_output=True, text=True, check=False
        )
        assert (command, done.returncode, done.stderr) == (command, 0, "")


def test_a_vendors_lines_work_as_typed() -> None:
    """A variable that is not exported reaches neither Docker Compose nor the stack."""
    page = (ROOT / "docs" / "vendors.md").read_text(encoding="utf-8")
    blocks = [body for lang, body in FENCE.findall(page) if lang in SHELL]
    plain = [line for body in blocks for line in body.splitlines() if re.match(r"[A-Z_]+=", line)]

    assert len(blocks) >= 6
    assert plain == []


def test_the_index_links_every_page() -> None:
    """Every page of docs/, runbooks included, is linked from docs/README.md."""
    folder = ROOT / "docs"
    links = re.findall(r"\]\(([^)#\s]+)", (folder / "README.md").read_text(encoding="utf-8"))
    linked = {(folder / link).resolve() for link in links if "://" not in link}
    pages = {page for page in folder.rglob("*.md") if page != folder / "README.md"}

    assert {page.name for page in pages - linked} == set()
    assert {str(page) for page in linked if not page.exists()} == set()


def test_the_examples_for_production_are_installed_by_its_page() -> None:
    """Each file for systemd or a proxy is named by docs/production.md, with the paths it uses."""
    page = (ROOT / "docs" / "production.md").read_text(encoding="utf-8")
    files = [
        path for path in (ROOT / "examples").iterdir() if path.suffix not in (".yaml", ".jsonl")
    ]
    paths = {
        path
        for file in files
        for path in re.findall(
            r"/(?:opt|etc|var)(?:/[a-z]+)*/spanledger(?:/[a-z]+\.[a-z]+)?",
            file.read_text(encoding="utf-8"),
        )
    }

    assert sorted(file.name for file in files if f"examples/{file.name}" not in page) == []
    assert len(paths) >= 4
    assert sorted(path for path in paths if path not in page) == []


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda path: path.stem)
def test_generated_pages_are_current(generator: Path) -> None:
    """A generated page is what its generator writes."""
    done = subprocess.run(
        [sys.executable, str(generator), "--check"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_every_setting_is_documented() -> None:
    """Every key of every section that a file can hold has its row."""
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    tables = dict(
        re.findall(r"^## `([^`]+)`\n(.*?)(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL)
    )
    found = {
        place: sorted(set(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)))
        for place, table in tables.items()
    }

    assert found == {place: sorted(keys) for place, keys in settings(config.Config, "") if keys}


def settings(model: type[BaseModel], place: str) -> Iterator[tuple[str, list[str]]]:
    """Each section of the configuration file with its keys that are not sections."""
    plain = []
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        parts = (field.annotation, *getattr(field.annotation, "__args__", ()))
        inner = [kind for kind in parts if isinstance(kind, type) and issubclass(kind, BaseModel)]
        kinds = [kind for part in parts for kind in getattr(part, "__args__", ())]
        if not inner and any(kind in NOTICE_KINDS.values() for kind in kinds):
            yield from of_kinds(f"{place}.{name}")
            continue
        if not inner:
            plain.append(field.alias or name)
            continue
        is_list = inner[0] is not field.annotation
        here = f"{place}.{name}" if place else name
        keys = list(settings(inner[0], f"{here}[]" if is_list else here))
        yield from ((p.removesuffix("[]"), k) for p, k in keys)
    yield place, plain


def of_kinds(here: str) -> Iterator[tuple[str, list[str]]]:
    """A list whose entries are of several kinds: what all have, and what each has in addition."""
    common = set(NoticeDestination.model_fields)
    yield here, list(common)
    for kind, model in NOTICE_KINDS.items():
        yield f"{here}[]: {kind}", list(set(model.model_fields) - common)


def test_every_variable_is_documented() -> None:
    """An environment variable of ours that the package names is in a page."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    source = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "service").rglob("*.py"))
    names = set(re.findall(r"[\"'](SPANLEDGER_[A-Z0-9_]+)[\"']", source))

    assert sorted(name for name in names if f"`{name}`" not in text) == []


def test_versions_agree() -> None:
    """Package, project file and the top of the changelog name the same version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d[^\]]*)\] - \d{4}-\d{2}-\d{2}$", changelog, flags=re.MULTILINE)

    assert (project["version"], released[0]) == (spanledger.__version__, spanledger.__version__)


def test_examples_in_pages_load() -> None:
    """Every YAML block that is ours passes `config check`; JSON parses."""
    for page in PAGES:
        for fence in FENCE.finditer(page.read_text(encoding="utf-8")):
            if fence["lang"] == "json":
                json.loads(fence["body"])
            if fence["lang"] == "yaml":
                data = yaml.safe_load(fence["body"])
                if set(data) & set(config.Config.model_fields):
                    loaded = config.parse_config(data, Everything(), page.name)
                    Plan.from_config(loaded)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_files_load(path: Path) -> None:
    """Every file in examples/ is valid."""
    if path.name.startswith("budgets"):
        assert config.load_budgets(path)
        return
    loaded = config.load_config(path, Everything())

    assert loaded.model_list
    assert bool(loaded.warnings) == path.name.startswith("litellm")


def test_the_page_of_budgets_names_all_that_nothing_bounds() -> None:
    """A field that causes a refusal is on the page that the message's code leads to."""
    page = (ROOT / "docs" / "budgets.md").read_text(encoding="utf-8")

    assert [name for name in UNBOUNDED if f"`{name}`" not in page] == []
    assert f"{IMAGE_TOKENS:,} tokens, {LOW_DETAIL_TOKENS:,}" in page
    assert f"{BUILT_IN_TOOL_TOKENS:,} tokens of instructions" in page


@pytest.mark.parametrize(
    ("spent", "held", "strict", "expected"),
    [
        ("0.70", "0.10", False, ("0.011184", None)),
        ("0.95", "0", False, ("0.0018336", 800)),
        ("0.9985", "0", False, None),
        ("0.9985", "0", True, ("0.0015", 244)),
    ],
)
def test_the_worked_example_of_budgets(
    spent: str, held: str, strict: bool, expected: tuple[str, int | None] | None
) -> None:
    """The table in docs/budgets.md matches the ledger and the routing."""
    price = PriceBook.load().price("gpt-4o-mini")
    assert price is not None
    sizes = sizes_of(Demand(bound_input(8_000).tokens, None, 2 * 400, 1, 0), price)
    budget = Budget("acme", "customer", "acme", parse_usd("1.00"), "month", strict=strict)
    balance = Balance(
        AccountKey("acme", "customer", "month", "UTC", 0, "acme"),
        1,
        parse_usd(spent),
        parse_usd(held),
    )

    if expected is None:
        with pytest.raises(BudgetExceededError):
            decide([Account.of(budget, balance)], sizes.holds)
        return
    hold = decide([Account.of(budget, balance)], sizes.holds).hold_nano

    assert (format_usd(hold), output_bought(sizes, price, hold)) == expected
    assert expected[0] in (ROOT / "docs" / "budgets.md").read_text(encoding="utf-8")

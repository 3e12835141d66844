"""House rules that no linter checks: sizes, docstrings, reasons, links, no floats in money.

Every exception to a rule is in a table here with its reason, and an exception that is no
longer needed fails as well.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import spanledger

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "service" / "spanledger"
MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 70
MAX_TEST_SLEEP_S = 0.2

LITELLM = "service/spanledger/providers/litellm.py"
BROAD_EXCEPT_ALLOWED: dict[str, str] = {
    "service/spanledger/gateway/app.py:_post": "the caller of a request that hits a bug gets 500",
    "service/spanledger/ledger/group.py:_write": "one operation's fault must not fail its batch",
    "service/spanledger/ledger/group.py:_commit_alone": "the writer's thread must not end",
    "service/spanledger/ledger/aside.py:run": "handed to whoever waits for the call",
    f"{LITELLM}:_import": "handed to whoever waits for the import",
    f"{LITELLM}:_next": "LiteLLM raises anything, and must leak nothing",
    f"{LITELLM}:complete": "LiteLLM raises anything, and must leak nothing",
    f"{LITELLM}:stream": "LiteLLM raises anything, and must leak nothing",
    "service/spanledger/notices/courier.py:run": "one destination must not end the others",
    "service/spanledger/notices/service.py:run": "notices must not end the shipper",
    "service/spanledger/routing/charge.py:_estimated": "an attempt that is not booked stays held",
    "service/spanledger/worker/run.py:_process": "one job must never end the others",
}
"""`path:function` to the reason why this funnel may catch everything."""

FLOAT_ALLOWED: dict[str, str] = {
    "service/spanledger/ledger/__init__.py:<module>": "seconds",
    "service/spanledger/ledger/__init__.py:open_ledger": "seconds to nanoseconds",
    "service/spanledger/ledger/sqlite/files.py:<module>": "seconds",
    "service/spanledger/ledger/sqlite/files.py:save": "seconds",
    "service/spanledger/ledger/group.py:<module>": "seconds",
    "service/spanledger/ledger/group.py:__init__": "seconds",
    "service/spanledger/ledger/group.py:_idle_s": "seconds",
    "service/spanledger/ledger/postgres/deadline.py:<module>": "seconds",
    "service/spanledger/ledger/postgres/batch.py:<module>": "seconds",
    "service/spanledger/ledger/postgres/pruning.py:<module>": "seconds",
    "service/spanledger/ledger/postgres/writer.py:<module>": "seconds",
    "service/spanledger/ledger/sqlite/connection.py:<module>": "seconds",
    "service/spanledger/ledger/sqlite/connection.py:execute_when_free": "seconds",
}
"""`path:function` of the money modules to the reason why a float there is not money."""

OTHER_PROGRAMS = ("sim", "worker")
"""Packages that are programs of their own by contract: they share no names with the rest."""
DEFINED_TWICE_ALLOWED: dict[str, str] = {
    "T": "a type variable belongs to its module",
}
"""Public name to the reason why two modules may define it."""

CITED_ELSEWHERE: dict[str, str] = {
    "get_llm_provider_logic.py": "LiteLLM's",
    "transformation.py": "LiteLLM's",
    "types/router.py": "LiteLLM's",
}
"""Files of others that our comments cite, to whose they are."""

MONEY_MODULES = ("money.py", "budgets/", "ledger/", "pricing/")
BANNED_WORDS = ("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|work|Users)/\w+")
NOQA = re.compile(r"#\s*noqa\b(?P<rest>.*)")
TYPE_IGNORE = re.compile(r"#\s*type:\s*ignore\b(?P<rest>.*)")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def python_files() -> tuple[Path, ...]:
    """Every Python file of the project."""
    folders = (
        PACKAGE,
        *(ROOT / name for name in ("tests", "tools", "bench", "prometheus", "grafana")),
    )
    return tuple(sorted(path for folder in folders for path in folder.rglob("*.py")))


@cache
def markdown_files() -> tuple[Path, ...]:
    """Every page of the project."""
    folders = (ROOT / "docs", ROOT / "examples", ROOT / "bench", ROOT / "helm")
    pages = [*ROOT.glob("*.md"), *(p for folder in folders for p in folder.rglob("*.md"))]
    return tuple(sorted(pages))


@cache
def text_files() -> tuple[Path, ...]:
    """Every text a reader of the project may open."""
    kinds = ("*.sql", "*.yaml", "*.yml", "*.toml", "*.sh")
    folders = (PACKAGE, ROOT / "docs", ROOT / "examples", ROOT / "tests", ROOT / "tools")
    others = [path for folder in folders for kind in kinds for path in folder.rglob(kind)]
    alone = [ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / ".ci" / "run"]
    return (*python_files(), *markdown_files(), *sorted(others), *alone)


@cache
def tree(path: Path) -> ast.Module:
    """A parsed module."""
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    """A path as the messages show it."""
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[Function]:
    """All functions of a module, nested ones too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, Function):
            yield node


def owners(path: Path) -> dict[int, str]:
    """Line number to the innermost function around it."""
    found: dict[int, str] = {}
    for function in sorted(functions(path), key=lambda node: node.lineno):
        for line in range(function.lineno, (function.end_lineno or function.lineno) + 1):
            found[line] = function.name
    return found


def place(path: Path, line: int) -> str:
    """`path:function`, the key of the tables of exceptions."""
    return f"{name_of(path)}:{owners(path).get(line, '<module>')}"


def test_modules_are_short() -> None:
    """No module is longer than a reader keeps in mind."""
    sizes = {name_of(p): len(p.read_text(encoding="utf-8").splitlines()) for p in python_files()}

    assert {name: n for name, n in sizes.items() if n > MAX_MODULE_LINES} == {}


def test_functions_are_short() -> None:
    """No function is longer than a screen."""
    sizes = {
        f"{name_of(path)}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in python_files()
        for node in functions(path)
    }

    assert {name: n for name, n in sizes.items() if n > MAX_FUNCTION_LINES} == {}


def test_every_module_says_what_it_owns() -> None:
    """A module without a docstring is one whose borders nobody drew."""
    silent = [
        name_of(path)
        for path in python_files()
        if not ast.get_docstring(tree(path)) and path.name != "__init__.py"
    ]

    assert silent == []


def test_every_test_states_its_promise() -> None:
    """A test's docstring is the sentence that is false when it fails."""
    silent = [
        f"{name_of(path)}:{node.name}"
        for path in python_files()
        if path.is_relative_to(ROOT / "tests")
        for node in functions(path)
        if node.name.startswith("test_") and not ast.get_docstring(node)
    ]

    assert silent == []


def test_only_funnels_catch_everything() -> None:
    """Every broad `except` is in the table, with its reason."""
    broad = {
        place(path, node.lineno)
        for path in python_files()
        if path.is_relative_to(PACKAGE)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler) and catches_everything(node)
    }

    assert broad == set(BROAD_EXCEPT_ALLOWED)


def catches_everything(handler: ast.ExceptHandler) -> bool:
    """Whether a handler takes any exception and does not raise it again."""
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {"Exception", "BaseException"}
    broad = any(k is None or (isinstance(k, ast.Name) and k.id in names) for k in kinds)
    last = handler.body[-1]
    return broad and not (isinstance(last, ast.Raise) and last.exc is None)


def test_every_suppression_has_a_code_and_a_reason() -> None:
    """A line that suppresses a check names the check and says why."""
    bare = [
        f"{name_of(path)}:{number}"
        for path in python_files()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if suppresses_without_reason(line)
    ]

    assert bare == []


def suppresses_without_reason(line: str) -> bool:
    """Whether a line has a suppression that lacks its code or a reason."""
    if match := NOQA.search(line):
        return not re.match(r":\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*\s+\W*\w+", match["rest"])
    if match := TYPE_IGNORE.search(line):
        return not re.match(r"\[[\w, -]+\]\s+\W*\w+", match["rest"])
    return False


def test_a_suppression_without_reason_is_seen() -> None:
    """The rule above tells good lines from bad ones."""
    good = ("x()  # noqa: S310 - https only, locked", "y = z  # type: ignore[arg-type]  # no stubs")
    bad = ("x()  # noqa", "x()  # noqa: S310", "y = z  # type: ignore", "y  # type: ignore[misc]")

    assert [suppresses_without_reason(line) for line in good] == [False] * len(good)
    assert [suppresses_without_reason(line) for line in bad] == [True] * len(bad)


def test_no_float_touches_money() -> None:
    """Where money is counted there is no float, no `float()` and no true division."""
    found = {
        place(path, node.lineno)
        for path in python_files()
        if path.is_relative_to(PACKAGE)
        and name_of(path).removeprefix("service/spanledger/").startswith(MONEY_MODULES)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.expr) and makes_float(node)
    }

    assert found == set(FLOAT_ALLOWED)


def makes_float(node: ast.expr) -> bool:
    """Whether a node can bring a float into being."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, float)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "float"
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Div):
        return False
    sides = (node.left, node.right)
    return not any(  # a path and a name
        isinstance(side, ast.JoinedStr)
        or (isinstance(side, ast.Constant) and isinstance(side.value, str))
        for side in sides
    )


def test_tests_do_not_wait_by_the_clock() -> None:
    """A test polls with a deadline; a long fixed sleep is slow when it works and flaky when not."""
    slow = [
        place(path, node.lineno)
        for path in python_files()
        if path.is_relative_to(ROOT / "tests")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "time.sleep"
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, int | float)
        and node.args[0].value > MAX_TEST_SLEEP_S
    ]

    assert slow == []


def test_the_demo_takes_only_the_wire_format_of_opentelemetry() -> None:
    """The demo's span sink decodes OTLP itself; the SDK stays where the contracts allow it."""
    imported = {
        module
        for path in (PACKAGE / "demo").rglob("*.py")
        for module in imports(path)
        if module.startswith("opentelemetry")
    }

    assert {module for module in imported if not module.startswith("opentelemetry.proto")} == set()


def test_nothing_else_imports_litellm_at_run_time() -> None:
    """An import by name, which the import contracts cannot see, is the adapter's alone."""
    importers = {
        name_of(path)
        for path in python_files()
        if path.is_relative_to(PACKAGE)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("import_module")
        and "litellm" in ast.unparse(node)
    }

    assert importers == {LITELLM}


def imports(path: Path) -> Iterator[str]:
    """Absolute names of all modules a file imports, inside functions too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_every_package_imported_is_declared() -> None:
    """What the package imports it depends on by name, below a major version nobody has tried."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[\[><=]", line)[0]: line for line in project["dependencies"]}
    extras = {
        re.split(r"[\[><=]", line)[0]
        for lines in project["optional-dependencies"].values()
        for line in lines
    }
    unbounded = [line for name, line in declared.items() if "<" not in line and name != "tzdata"]
    assert not unbounded
    providers = packages_distributions()
    missing = {
        f"{name_of(path)}: {top}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for top in {name.partition(".")[0] for name in imports(path)}
        if top not in {*sys.stdlib_module_names, "spanledger"}
        and not {name.lower().replace("_", "-") for name in providers.get(top, [top])}
        & (declared.keys() | extras)
    }
    assert not missing


def test_a_public_name_is_defined_once() -> None:
    """No two modules of a program define a class or a constant of the same name."""
    found: dict[tuple[str, str], set[str]] = {}
    for path in python_files():
        if path.is_relative_to(PACKAGE):
            top = path.relative_to(PACKAGE).parts[0]
            program = top if top in OTHER_PROGRAMS else "service"
            for name in public_names(tree(path)):
                found.setdefault((program, name), set()).add(name_of(path))
    twice = {name: sorted(paths) for (_, name), paths in found.items() if len(paths) > 1}

    assert {n: paths for n, paths in twice.items() if n not in DEFINED_TWICE_ALLOWED} == {}
    assert DEFINED_TWICE_ALLOWED.keys() <= twice.keys()


def public_names(module: ast.Module) -> Iterator[str]:
    """Classes, constants and aliases of types at the top of a module; not what it imports."""
    for node in module.body:
        names = [node.name] if isinstance(node, ast.ClassDef) else []
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
        yield from (name for name in names if name[0].isupper())


def test_nothing_is_left_unfinished() -> None:
    """Notes to oneself are issues, not text."""
    found = [
        f"{name_of(path)}: {word}"
        for path in text_files()
        for word in BANNED_WORDS
        if re.search(rf"\b{word}\b", path.read_text(encoding="utf-8"))
    ]

    assert found == []


def test_nothing_names_a_machine() -> None:
    """No path of one machine is in the project."""
    found = [
        f"{name_of(path)}: {match.group()}"
        for path in text_files()
        if path != Path(__file__)
        for match in MACHINE_PATH.finditer(path.read_text(encoding="utf-8"))
    ]

    assert found == []


def prose(path: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(
        r"^(```+|~~~+).*?^\1", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )


def anchors(path: Path) -> set[str]:
    """The fragments that a page's headings answer to."""
    titles = re.findall(r"^#+ (.+)$", prose(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_files_named_in_comments_exist() -> None:
    """A file of Python that a comment or a docstring cites is one of the project's."""
    known = [f"/{name_of(path)}" for path in python_files()]
    gone = [
        f"{name_of(path)}: {cited}"
        for path in python_files()
        for cited in re.findall(r"`([\w./]+\.py)`", path.read_text(encoding="utf-8"))
        if cited not in CITED_ELSEWHERE and not any(k.endswith(f"/{cited}") for k in known)
    ]

    assert gone == []


def test_the_public_names_are_on_the_page() -> None:
    """ARCHITECTURE.md names what the package exports, and the package exports nothing else."""
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = page.partition("\n## Public names\n")[2].partition("\n## ")[0]

    assert re.findall(r"`(__?\w+)`", section) == spanledger.__all__


def test_every_page_has_one_title() -> None:
    """A page starts with its one title."""
    titles = {
        name_of(page): len(re.findall(r"^# ", prose(page), flags=re.MULTILINE))
        for page in markdown_files()
    }

    assert {name: n for name, n in titles.items() if n != 1} == {}


def test_links_between_pages_resolve() -> None:
    """Every relative link leads to a file and, with a fragment, to a heading in it."""
    broken = [
        f"{name_of(page)}: {link}"
        for page in markdown_files()
        for link in re.findall(r"\]\(([^)\s]+)\)", prose(page))
        if not link.startswith(("http://", "https://", "mailto:")) and not leads(page, link)
    ]

    assert broken == []


def leads(page: Path, link: str) -> bool:
    """Whether a relative link of a page has its target."""
    file, _, fragment = link.partition("#")
    target = (page.parent / file).resolve() if file else page
    if not target.exists():
        return False
    return not fragment or fragment in anchors(target)

"""Write docs/clients.md from the table of clients that the tests try, and from their scripts.

`--check` writes nothing and fails if the file is out of date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.clients.table import CLIENTS, FAILING, KEY, URL, Client  # noqa: E402  # needs the path

TARGET = ROOT / "docs" / "clients.md"
ADDRESS, SECRET = "http://127.0.0.1:4000", "slk_your-key"

HEAD = """\
<!-- Written by tools/generate_client_docs.py; change tests/clients/table.py and its scripts. -->
# Clients

To use the gateway, set your client's base URL to the gateway's address and its API key to a key from
`spanledger keys create`. This page says how, for each client that is tested. The model is the name of one of
your routes.

## What is tested

Each version below is installed from its registry and runs against a gateway in continuous integration, with a
simulated provider behind it. Each task is done three times: directly, after the first deployment answered
429 and a fallback on the same API took over, and after a fallback on another provider's API did. The answer
must be what the provider sent, and the ledger must have the customer, the API, the tokens and the price.

"""
WIRES = {
    "chat": "chat completions",
    "messages": "Anthropic's Messages",
    "responses": "Responses",
    "media": "audio and images",
    "generate_content": "Google's generateContent",
}
TASKS = {
    "whole": "answer",
    "streamed": "stream",
    "tool": "tool call",
    "structured": "structured output",
    "speech": "speech",
    "transcript": "transcript",
    "dictation": "streamed transcript",
    "edit": "image edit",
}
FENCES = {".py": "python", ".mjs": "js", ".go": "go", ".java": "java"}


def main() -> None:
    """Write the page, or check it."""
    text = page()
    if "--check" in sys.argv[1:]:
        if not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text:
            sys.exit(f"{TARGET.name} is out of date: run `make generate` and commit it")
        return
    TARGET.write_text(text, encoding="utf-8")


def page() -> str:
    """All sections of the page."""
    return HEAD + matrix() + failing() + "\n## What to set\n\n" + "\n".join(map(section, CLIENTS))


def matrix() -> str:
    """What is tested, one row for each client."""
    rows = [
        f"| [{name(one)}](#{anchor(name(one))}) | {versions(one)} | {WIRES[one.wire]} |"
        f" {', '.join(TASKS[task] for task in one.tasks)} |\n"
        for one in CLIENTS
    ]
    return "| client | versions | API | tasks |\n|---|---|---|---|\n" + "".join(rows)


def failing() -> str:
    """What does not work yet."""
    if not FAILING:
        return ""
    titles = {one.name: name(one) for one in CLIENTS}
    found = dict.fromkeys((titles[client], why) for (client, *_), why in FAILING.items())
    return "\nThese do not work yet:\n\n" + "".join(f"- {who}: {why}.\n" for who, why in found)


def section(client: Client) -> str:
    """What to set for one client."""
    parts = [f"### {name(client)}\n"]
    env = {**client.env}
    if env:
        values = {key: shown(value) for key, value in env.items()}
        lines = "".join(f"export {key}={value}\n" for key, value in values.items())
        parts.append(f"```sh\n{lines}```\n")
    if setup := lines_of(client):
        parts.append(setup)
    if client.settings:
        parts.append(
            "A blocking budget refuses the web search that Codex has in every request, since nothing\n"
            f"limits its cost. Add `{client.settings}` to the file.\n"
        )
    if client.quiet:
        names = " and ".join(f"`{key}={value}`" for key, value in client.quiet.items())
        parts.append(f"The tests set {names}, so that it calls nobody else.\n")
    return "\n".join(parts)


def lines_of(client: Client) -> str:
    """The lines of a client's script that a user needs as well."""
    source = client.script.read_text(encoding="utf-8")
    found = re.search(
        r"(?:#|//) setup(?:: (?P<file>[^\n]+))?\n(?P<code>.*?)\n+ *(?:#|//) end\n",
        source,
        re.DOTALL,
    )
    if found is None:
        return ""
    if file := found["file"]:
        text = found["code"].split('"""')[1].replace('{os.environ["TRY_SETTINGS"]}\n', "")
        text = text.strip().replace("{URL}", ADDRESS)
        return f"In `{file}`:\n\n```toml\n{text}\n```\n"
    code = found["code"].strip()
    code = code.replace("`${URL}/v1`", f"'{ADDRESS}/v1'").replace(
        "apiKey: KEY", f"apiKey: '{SECRET}'"
    )
    return f"```{FENCES[client.script.suffix]}\n{code}\n```\n"


def shown(value: str) -> str:
    """An environment variable's value as a user would write it."""
    return value.replace(URL, ADDRESS).replace(KEY, SECRET)


def name(client: Client) -> str:
    """The client's title, with its language unless it is a command."""
    if client.language == "command line":
        return client.title
    return f"{client.title} ({client.language})"


def versions(client: Client) -> str:
    """What is installed."""
    return ", ".join(f"{package} {version}" for package, version in client.versions().items())


def anchor(title: str) -> str:
    """The fragment that a heading answers to."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


if __name__ == "__main__":
    main()

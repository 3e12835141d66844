"""After an update or an edit, exactly the affected services are recreated and run the new files."""

from __future__ import annotations

import pytest

from tests.engine.installation import Installation

OURS = {"gateway", "sim", "worker"}
NEEDS = {"collector": ("worker",), "gateway": ("worker",)}
"""Compose also recreates services that wait for the health of a recreated one."""
RULE = """groups:
  - name: added
    rules:
      - {record: added_by_a_pull, expr: vector(1)}
"""


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """The services whose container has changed."""
    assert before.keys() == after.keys()
    return {name for name in after if after[name] != before[name]}


def pull(stack: Installation, name: str, text: str) -> None:
    """Change a file together with its generated counterpart, as a pull does."""
    path = stack.folder / name
    # Git puts a new file in the place of the old one.
    path.unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")
    stack.run("python3", "tools/generate_stack_digests.py").well()


def test_a_pulled_rule_is_applied_by_compose_alone(stack: Installation) -> None:
    """`docker compose up --detach` after a pull recreates Prometheus and nothing else."""
    before = stack.ids()
    pull(stack, "prometheus/rules/added.yml", RULE)

    stack.compose("up", "--detach", "--wait").well()

    assert changed(before, stack.ids()) == {"prometheus"}
    rules = stack.http.get("http://127.0.0.1:9090/api/v1/rules").json()["data"]["groups"]
    assert "added" in {group["name"] for group in rules}


@pytest.mark.parametrize(
    ("service", "name"),
    [
        ("tempo", "tempo/tempo.yaml"),
        ("collector", "otel-collector/config.yaml"),
        ("gateway", "examples/stack.yaml"),
        ("grafana", "grafana/provisioning/dashboards/dashboards.yaml"),
    ],
)
def test_an_edited_file_is_applied_by_make(stack: Installation, service: str, name: str) -> None:
    """`make up` notices manual edits: it recreates that service and at most one that depends on it."""
    before, path = stack.ids(), stack.folder / name
    path.write_text(f"{path.read_text('utf-8')}\n# edited\n", encoding="utf-8")

    stack.run("make", "up").well()

    assert {service} <= changed(before, stack.ids()) <= {service, *NEEDS.get(service, ())}
    # `make up` waits for the published ports; the engine looks at a container's health a second later.
    stack.comes_up()


def test_changed_code_is_built_and_runs(stack: Installation) -> None:
    """`docker compose up --detach` after a pull rebuilds our image and runs our services from it."""
    name = "service/spanledger/__init__.py"
    pull(stack, name, (stack.folder / name).read_text("utf-8") + "\nPULLED = True\n")
    before = stack.ids()

    stack.compose("up", "--detach", "--wait").well()

    # Compose also recreates dependents of a recreated service; all depend on check-files, which is ours.
    assert changed(before, stack.ids()) >= OURS
    words = ("exec", "-T", "gateway", "python", "-c", "import spanledger; print(spanledger.PULLED)")
    assert stack.compose(*words).well().strip() == "True"

"""Reads YAML files into plain values, with a clear error for every way a file can be unreadable.

A key that appears twice in one mapping with different values is an error: PyYAML silently uses the
last one, and it may be the address or the key of a deployment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from spanledger.errors import ConfigError

DEFAULT_CONFIG = Path("spanledger.yaml")
MAX_BYTES = 4 * 2**20
"""Size limit of a file."""
MAX_INCLUDES = 64
MAX_VALUES = MAX_BYTES // 2
"""Maximum number of values in a file, counting aliased values each time they are used. Without
aliases, no file of `MAX_BYTES` has more."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, strict about duplicate keys and about the size of expanded aliases."""

    def construct_document(self, node: yaml.Node) -> Any:
        """The file's value, after a check of its size."""
        _check_size(node)
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping without duplicate keys; merged keys (`<<`) may be overridden."""
        seen: dict[Any, tuple[yaml.Node, yaml.Node]] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            try:
                again = key in seen
            except TypeError:
                continue  # PyYAML's own error is clearer
            if again and not _same(seen[key][1], value_node):
                first = seen[key][0].start_mark.line + 1
                raise yaml.MarkedYAMLError(
                    problem=f"{key!r} is already set in line {first}; keep one of the two",
                    problem_mark=key_node.start_mark,
                )
            seen[key] = (key_node, value_node)
        return super().construct_mapping(node, deep)


def _check_size(root: yaml.Node) -> None:
    """Refuse a file whose aliases expand to more values than it could hold without them: nine lines
    can expand to a billion values, and every reader of the file would visit them all."""
    sizes: dict[yaml.Node, int] = {}

    def size(node: yaml.Node) -> int:
        if isinstance(node, yaml.ScalarNode):
            return 1
        found = sizes.get(node)
        if found == 0:
            raise yaml.MarkedYAMLError(
                problem="a value contains itself", problem_mark=node.start_mark
            )
        if found is None:
            sizes[node] = 0
            parts = node.value
            if isinstance(node, yaml.MappingNode):
                parts = [part for pair in parts for part in pair]
            found = sizes[node] = 1 + sum(map(size, parts))
        return found

    if size(root) > MAX_VALUES:
        raise yaml.MarkedYAMLError(
            problem=f"its aliases expand to more than {MAX_VALUES} values; use fewer aliases",
            problem_mark=root.start_mark,
        )


def _same(first: yaml.Node, second: yaml.Node) -> bool:
    """Whether two nodes have the same content, so it does not matter which one is used."""
    return bool(yaml.serialize(first) == yaml.serialize(second))


def read_yaml(path: Path) -> Any:
    """Parse a YAML file. Raises ConfigError when it cannot be read or parsed."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        hint = "name one with --config, or start from the output of `spanledger config example`"
        missing = f"; {hint}" if path == DEFAULT_CONFIG else ""
        raise ConfigError(f"cannot read {str(path)!r}: {error.strerror}{missing}") from error
    except OSError as error:
        raise ConfigError(f"cannot read {str(path)!r}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES} bytes; it cannot be a configuration")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a text file in UTF-8") from None
    try:
        return yaml.load(text, _Loader)  # noqa: S506  # a SafeLoader, see above
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        hint = "; indent with spaces" if "'\\t'" in f"{error.problem}" else ""
        raise ConfigError(f"{path} is not valid YAML: {where}{error.problem}{hint}") from error
    except yaml.reader.ReaderError as error:
        raise ConfigError(
            f"{path} is not valid YAML: character {error.position} is not allowed in a text file"
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    except RecursionError:
        raise ConfigError(f"{path} is not valid YAML: it is nested too deeply") from None


def with_includes(data: dict[Any, Any], path: Path) -> dict[Any, Any]:
    """A file's mapping merged with those of the files it includes: lists are joined and, as in
    LiteLLM, an included file wins where both set a value.

    Raises:
        ConfigError: an included file cannot be read, or is not a mapping.
    """
    merged = {key: value for key, value in data.items() if key != "include"}
    queue = [(name, path) for name in _names(data, path)]
    seen = {path.resolve()}
    while queue:
        name, included_by = queue.pop(0)
        file = included_by.parent / name
        try:
            if not file.exists() and (path.parent / name).exists():
                file = path.parent / name  # as in LiteLLM: next to the first file
            resolved = file.resolve()
        except (OSError, ValueError) as error:  # not a valid file name
            raise ConfigError(f"{included_by}: include: {name[:64]!r}: {error}") from None
        if resolved in seen:
            continue
        if file.exists() and not file.is_file():  # reading a pipe would wait for its writer
            raise ConfigError(f"{included_by}: include: {name!r} is not a regular file")
        seen.add(resolved)
        if len(seen) > MAX_INCLUDES:
            raise ConfigError(f"{path} includes more than {MAX_INCLUDES} files")
        included = read_yaml(file)
        if included is None:
            continue
        if not isinstance(included, dict):
            raise ConfigError(f"{file}: expected a mapping at the top of an included file")
        queue += [(more, file) for more in _names(included, file)]
        for key, value in included.items():
            if key == "include":
                continue
            own = merged.get(key)
            if isinstance(own, list) and isinstance(value, list):
                merged[key] = [*own, *value]
            elif isinstance(own, dict) and isinstance(value, dict):
                merged[key] = {**own, **value}
            elif value is not None:
                merged[key] = value
    return merged


def _names(data: dict[Any, Any], path: Path) -> list[str]:
    names = data.get("include") or []
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: include: expected a list of file names")
    return names

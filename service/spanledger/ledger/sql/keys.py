"""Virtual keys in SQL, the same in every database."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

from spanledger.budgets.scopes import tags_in, tags_text
from spanledger.ledger.key_records import KeyRecords
from spanledger.ledger.keys import (
    FoundKey,
    Key,
    KeyChange,
    Secret,
    change_from_json,
    change_to_json,
)
from spanledger.ledger.sql.port import Columns, Sql

KEY_COLUMNS = (
    *("id", "customer", "team", "routes", "created_ns", "revoked_ns", "pass_through", "user_id"),
    *("project", "tags", "name", "expires_ns", "models", "default_user", "metadata"),
    "last_used_ns",
)
FEW = 100
"""Up to this many names or digests are looked up one by one; beyond, all are read."""


class SqlKeys(KeyRecords):
    """Keys of a connection. `key_columns` is what SQL there says for each of `KEY_COLUMNS`."""

    key_columns: Sequence[str] = KEY_COLUMNS

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    @property
    def _select(self) -> str:
        columns = ", ".join(
            f"k.{name}" if name in KEY_COLUMNS else name for name in self.key_columns
        )
        return f"SELECT {columns}"

    # writes -------------------------------------------------------------------------------

    def _write_keys(self, keys: Sequence[Key]) -> None:
        self._sql.many(_WRITE_KEY, [_columns_of(key) for key in keys])

    def _write_secrets(self, secrets: Sequence[Secret]) -> None:
        self._sql.many(_WRITE_DIGEST, [secret._asdict() for secret in secrets])

    def _note_keys(self, changes: Sequence[KeyChange]) -> None:
        self._sql.many(
            _NOTE,
            [
                {"at": c.at_ns, "change": c.change, "id": c.key.id, "key": change_to_json(c)}
                for c in changes
            ],
        )

    # reads --------------------------------------------------------------------------------

    def keys(self) -> list[Key]:
        """See `KeyRecords`."""
        found = [_key(row) for row in self._sql.rows(f"{self._select} FROM keys k")]
        return sorted(found, key=lambda key: (key.created_ns, key.id))

    def find_key(self, digest: str) -> FoundKey | None:
        """See `KeyRecords`."""
        query = f"{self._select}, s.until_ns {_BY_DIGEST} WHERE s.digest = :digest"
        for *row, until_ns in self._sql.rows(query, digest=digest):
            return FoundKey(_key(row), until_ns)
        return None

    def has_keys(self) -> bool:
        """See `KeyRecords`."""
        return bool(self._sql.rows("SELECT 1 FROM keys LIMIT 1"))

    def replaced_secrets(self) -> Mapping[str, Sequence[Secret]]:
        """See `KeyRecords`."""
        found = defaultdict[str, list[Secret]](list)
        for row in self._sql.rows(f"{_DIGESTS} WHERE until_ns IS NOT NULL"):
            found[row[1]].append(Secret(*row))
        return found

    def key_history(self, key_id: str | None = None) -> list[KeyChange]:
        """See `KeyRecords`."""
        rows = self._sql.rows(_HISTORY, id=key_id)
        return [change_from_json(at_ns, change, text) for at_ns, change, text in rows]

    def _find_keys(self, reference: str, digest: str) -> list[Key]:
        query = f"{self._select} FROM keys k WHERE id = :id OR name = :id OR id = (SELECT key_id {_OF_DIGEST})"
        return [_key(row) for row in self._sql.rows(query, id=reference, digest=digest)]

    def _secrets_of(self, key_id: str) -> list[Secret]:
        return [Secret(*row) for row in self._sql.rows(f"{_DIGESTS} WHERE key_id = :id", id=key_id)]

    def known_digests(self, digests: Collection[str]) -> dict[str, str]:
        rows = self._looked_up("SELECT digest, key_id FROM key_secrets", "digest", digests)
        return {digest: key_id for digest, key_id in rows if digest in digests}

    def _names_taken(self, names: Collection[str]) -> dict[str, str]:
        query = "SELECT name, id, revoked_ns FROM keys"
        rows = self._looked_up(query, "name", names)
        return {name: id_ for name, id_, revoked in rows if name in names and revoked is None}

    def _looked_up(self, query: str, column: str, values: Collection[str]) -> Iterator[Columns]:
        """The rows with these values, and perhaps others."""
        if len(values) > FEW:
            yield from self._sql.rows(query)
            return
        for value in values:
            yield from self._sql.rows(f"{query} WHERE {column} = :value", value=value)


def _columns_of(key: Key) -> dict[str, object]:
    return {
        "id": key.id,
        "customer": key.customer,
        "team": key.team,
        "routes": json.dumps(key.routes),
        "created_ns": key.created_ns,
        "revoked_ns": key.revoked_ns,
        "pass_through": int(key.pass_through),
        "user_id": key.user,
        "project": key.project,
        "tags": tags_text(key.tags),
        "name": key.name,
        "expires_ns": key.expires_ns,
        "models": json.dumps(key.models),
        "default_user": key.default_user,
        "metadata": json.dumps(dict(key.metadata), ensure_ascii=False),
        "last_used_ns": key.last_used_ns,
    }


def _key(row: Sequence[object]) -> Key:
    found = dict(zip(KEY_COLUMNS, row, strict=True))
    return Key(
        id=str(found["id"]),
        customer=str(found["customer"]),
        team=str(found["team"]),
        routes=tuple(json.loads(str(found["routes"]))),
        created_ns=found["created_ns"],  # type: ignore[arg-type]  # an integer that is never NULL
        revoked_ns=found["revoked_ns"],  # type: ignore[arg-type]  # an integer, or NULL
        pass_through=bool(found["pass_through"]),
        user=str(found["user_id"]),
        project=str(found["project"]),
        tags=tuple(tags_in(str(found["tags"]))),
        name=str(found["name"]),
        expires_ns=found["expires_ns"],  # type: ignore[arg-type]  # as above
        models=tuple(json.loads(str(found["models"]))),
        default_user=str(found["default_user"]),
        metadata=tuple(json.loads(str(found["metadata"])).items()),
        last_used_ns=found["last_used_ns"],  # type: ignore[arg-type]  # as above
    )


_PLACES = ", ".join(f":{name}" for name in KEY_COLUMNS)
_NEW = ", ".join(f"{name} = excluded.{name}" for name in KEY_COLUMNS[1:])
_WRITE_KEY = f"""
INSERT INTO keys ({", ".join(KEY_COLUMNS)}) VALUES ({_PLACES})
ON CONFLICT (id) DO UPDATE SET {_NEW}"""  # noqa: S608 - our own columns

_WRITE_DIGEST = """
INSERT INTO key_secrets (digest, key_id, from_ns, until_ns)
VALUES (:digest, :key_id, :from_ns, :until_ns)
ON CONFLICT (digest) DO UPDATE SET until_ns = excluded.until_ns"""

_NOTE = """
INSERT INTO key_history (at_ns, change, key_id, key) VALUES (:at, :change, :id, :key)"""

_HISTORY = """
SELECT at_ns, change, key FROM key_history
WHERE CAST(:id AS TEXT) IS NULL OR key_id = :id ORDER BY id"""

_DIGESTS = "SELECT digest, key_id, from_ns, until_ns FROM key_secrets"
_OF_DIGEST = "FROM key_secrets WHERE digest = :digest"
_BY_DIGEST = "FROM key_secrets s JOIN keys k ON k.id = s.key_id"

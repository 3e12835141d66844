"""Virtual keys: what commands change, with its history.

What a change means is decided here; a database reads and writes the rows. Every change is one transaction,
together with the key's budgets if it brings some.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from spanledger.budgets.model import Budget
from spanledger.clock import NANOS
from spanledger.errors import SpanledgerError, UsageError
from spanledger.ledger.budget_records import BudgetRecords
from spanledger.ledger.keys import (
    ID_PREFIX,
    KEY_PREFIX,
    ChangeKind,
    FoundKey,
    Key,
    KeyChange,
    Secret,
    key_digest,
    new_id,
    new_secret,
)


class KeyRecords(BudgetRecords):
    """Reads and writes of virtual keys, besides those of budgets."""

    # what a database does -----------------------------------------------------------------

    @abstractmethod
    def _write_keys(self, keys: Sequence[Key]) -> None:
        """Create or replace keys."""

    @abstractmethod
    def _write_secrets(self, secrets: Sequence[Secret]) -> None:
        """Create or replace secrets."""

    @abstractmethod
    def _note_keys(self, changes: Sequence[KeyChange]) -> None:
        """Add changes to the history."""

    @abstractmethod
    def _find_keys(self, reference: str, digest: str) -> list[Key]:
        """The keys with this id, name or secret."""

    @abstractmethod
    def _secrets_of(self, key_id: str) -> list[Secret]: ...

    @abstractmethod
    def known_digests(self, digests: Collection[str]) -> dict[str, str]:
        """Which of these some key has, with the key's id."""

    @abstractmethod
    def _names_taken(self, names: Collection[str]) -> dict[str, str]:
        """Which of these names a key has that is not revoked, with its id."""

    # what others ask ----------------------------------------------------------------------

    @abstractmethod
    def keys(self) -> list[Key]:
        """All keys, oldest first, including revoked ones."""

    @abstractmethod
    def replaced_secrets(self) -> Mapping[str, Sequence[Secret]]:
        """The secrets of each key that have an end, by the key's id."""

    @abstractmethod
    def key_history(self, key_id: str | None = None) -> list[KeyChange]:
        """Changes of one key or all, oldest first."""

    @abstractmethod
    def find_key(self, digest: str) -> FoundKey | None:
        """The key with this secret, by index."""

    @abstractmethod
    def has_keys(self) -> bool:
        """Whether any key was ever created: revoking the last one must not open the gateway."""

    def key(self, reference: str) -> Key:
        """A key by its id, by its name, or by one of its secrets.

        Of several with this name, it is the one that is not revoked. Raises SpanledgerError.
        """
        digest = key_digest(reference)
        found = self._find_keys(reference, digest)
        valid = [key for key in found if key.revoked_ns is None] or found
        if len(valid) == 1:
            return valid[0]
        if valid:
            ids = ", ".join(key.id for key in valid)
            raise SpanledgerError(
                f"several keys had the name {reference!r}; name one by its id: {ids}"
            )
        # What was given may be a secret, so it is not repeated.
        raise SpanledgerError(
            "no key has this id, name or secret; `spanledger keys list` shows all ids and names"
        )

    # changes ------------------------------------------------------------------------------

    def create_key(
        self,
        customer: str,
        team: str,
        routes: Sequence[str],
        now_ns: int,
        *,
        pass_through: bool = False,
        user: str = "",
        project: str = "",
        tags: Sequence[str] = (),
    ) -> tuple[str, Key]:
        """Create a virtual key; returns the secret, shown only once, and the stored key."""
        key = Key(
            id=new_id(),
            customer=customer,
            team=team,
            routes=tuple(routes),
            created_ns=now_ns,
            revoked_ns=None,
            pass_through=pass_through,
            user=user,
            project=project,
            tags=tuple(dict.fromkeys(tags)),
        )
        secret = new_secret()
        self.add_keys([(key, key_digest(secret))], now_ns)
        return secret, key

    def add_keys(
        self,
        added: Sequence[tuple[Key, str]],
        now_ns: int,
        budgets: Sequence[Budget] = (),
        change: ChangeKind = "create",
    ) -> None:
        """Add keys, each with the digest of its secret, and their budgets: all of it or nothing.

        Raises:
            UsageError: names, secrets or budgets exist already; all of them are listed.
        """
        written = False

        def write() -> None:
            nonlocal written
            if taken := self.taken(added, budgets):
                raise UsageError("\n".join(taken))
            self._write_keys([key for key, _ in added])
            self._write_secrets([Secret(digest, key.id, now_ns) for key, digest in added])
            self._note_keys([KeyChange(now_ns, change, key, self.by) for key, _ in added])
            self._increase("keys_version")
            written = True

        for key, _ in added:
            check_name(key.name)
            check_expiry(key.expires_ns, now_ns)
        if budgets:
            self.set_budgets(budgets, now_ns, also=write)
        if not written:
            with self._transaction():
                write()

    def taken(self, added: Sequence[tuple[Key, str]], budgets: Sequence[Budget] = ()) -> list[str]:
        """What new keys and budgets have in common with some that are there, a line for each."""
        names = self._names_taken([key.name for key, _ in added if key.name])
        digests = self.known_digests([digest for _, digest in added])
        there = {budget.name for budget in self._named_budgets({budget.name for budget in budgets})}
        lines = [
            f"the name {key.name!r} is taken by {names[key.name]}; revoke that key, or choose another name"
            for key, _ in added
            if key.name in names
        ]
        lines += [
            f"{key.name or 'a key'}: {digests[digest]} has the same secret"
            for key, digest in added
            if digest in digests
        ]
        lines += [
            f"there is a budget {budget.name!r} already; remove it, or choose another name for the key"
            for budget in budgets
            if budget.name in there
        ]
        return lines

    def rotate_key(self, reference: str, overlap_ns: int, now_ns: int) -> tuple[str, Key, int]:
        """Give a key a new secret; returns it, the key, and when the secrets before it stop working.

        Raises:
            SpanledgerError: there is no such key.
            UsageError: it is revoked or expired, or expires before the overlap ends.
        """
        until_ns, secret = now_ns + overlap_ns, new_secret()

        def write(key: Key) -> KeyChange:
            if key.revoked_ns is not None:
                raise UsageError(f"{key.shown} is revoked; create another key")
            if key.expires_ns is not None and key.expires_ns <= now_ns:
                raise UsageError(
                    f"{key.shown} expired on {moment(key.expires_ns)}; give it a later end first:"
                    f" spanledger keys set {key.name or key.id} --expires …"
                )
            if key.expires_ns is not None and overlap_ns and until_ns > key.expires_ns:
                raise UsageError(
                    f"{key.shown} expires on {moment(key.expires_ns)}, before the overlap ends on"
                    f" {moment(until_ns)}; choose a shorter --overlap, or a later --expires with"
                    " `spanledger keys set`"
                )
            replaced = [
                before._replace(until_ns=min(before.until_ns or until_ns, until_ns))
                for before in self._secrets_of(key.id)
            ]
            self._write_secrets([*replaced, Secret(key_digest(secret), key.id, now_ns)])
            return KeyChange(now_ns, "rotate", key, self.by, until_ns)

        return secret, self._changed(reference, write).key, until_ns

    def change_key(
        self, reference: str, edit: Callable[[Key], Key], now_ns: int
    ) -> tuple[Key, Key]:
        """Change a key that is not revoked; returns before and after.

        Raises:
            SpanledgerError: there is no such key.
            UsageError: it is revoked, or cannot become what is asked for.
        """
        before: Key | None = None

        def write(key: Key) -> KeyChange | None:
            nonlocal before
            before = key
            if key.revoked_ns is not None:
                raise UsageError(f"{key.shown} is revoked; create another key")
            after = edit(key)
            if after == key:
                return None
            if after.expires_ns != key.expires_ns:
                check_expiry(after.expires_ns, now_ns)
            if after.name != key.name:
                check_name(after.name)
                if owner := self._names_taken([after.name]).get(after.name):
                    raise UsageError(f"the name {after.name!r} is taken by {owner}")
            self._write_keys([after])
            return KeyChange(now_ns, "set", after, self.by)

        after = self._changed(reference, write).key
        assert before is not None
        return before, after

    def revoke_key(self, reference: str, now_ns: int) -> Key:
        """Revoke a key by its id, its name, or by one of its secrets. Raises SpanledgerError if there is
        no such key."""

        def write(key: Key) -> KeyChange | None:
            if key.revoked_ns is not None:
                return None
            revoked = replace(key, revoked_ns=now_ns)
            self._write_keys([revoked])
            return KeyChange(now_ns, "revoke", revoked, self.by)

        return self._changed(reference, write).key

    def _changed(self, reference: str, write: Callable[[Key], KeyChange | None]) -> KeyChange:
        """A change in a transaction; one that changes nothing leaves no trace."""
        with self._transaction():
            key = self.key(reference)
            change = write(key)
            if change is None:
                return KeyChange(0, "set", key)
            self._note_keys([change])
            self._increase("keys_version")
        return change


def check_name(name: str) -> None:
    """Refuse a name that could be an id or a secret. Raises UsageError."""
    if name.startswith((ID_PREFIX, KEY_PREFIX)):
        start = ID_PREFIX if name.startswith(ID_PREFIX) else KEY_PREFIX
        raise UsageError(f"a key's name must not begin with {start!r}, as ids and secrets do")


def check_expiry(expires_ns: int | None, now_ns: int) -> None:
    """Refuse an end that is over. Raises UsageError."""
    if expires_ns is not None and expires_ns <= now_ns:
        raise UsageError(
            f"the key would expire on {moment(expires_ns)}, which is over; choose a later moment"
        )


def moment(ns: int) -> str:
    """A time in UTC, to the second."""
    try:
        return datetime.fromtimestamp(ns // NANOS, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return "a day after the year 9999"

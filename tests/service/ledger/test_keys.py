"""Keys over their life: secrets that replace one another, ends, names, budgets of their own, and history."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest

from spanledger.budgets.model import Author, Budget
from spanledger.errors import SpanledgerError, UsageError
from spanledger.ledger.keys import (
    USED_EVERY_NS,
    FoundKey,
    Key,
    key_digest,
    new_id,
    new_secret,
    state_of,
)
from spanledger.ledger.records import Records
from tests.service.ledger.conftest import NOON, Book
from tests.service.ledger.stores import raw

HOUR = 3_600 * 10**9
DAY = 24 * HOUR
USD = 10**9


def new_key(**changes: object) -> Key:
    """A key of customer acme."""
    settings: dict[str, object] = {
        "id": new_id(),
        "customer": "acme",
        "team": "",
        "routes": (),
        "created_ns": NOON,
        "revoked_ns": None,
    }
    return Key(**(settings | changes))  # type: ignore[arg-type]  # test shorthand


def added(records: Records, **changes: object) -> tuple[str, Key]:
    """A key in the ledger, and its secret."""
    secret, key = new_secret(), new_key(**changes)
    records.add_keys([(key, key_digest(secret))], NOON)
    return secret, key


def found(records: Records, secret: str) -> FoundKey:
    """What a gateway gets for a secret."""
    result = records.find_key(key_digest(secret))
    assert result is not None
    return result


def test_everything_that_a_key_has_is_kept(book: Book) -> None:
    """A key is read as it was written, by its secret, in the list and in the history."""
    with book.store.records("create") as records:
        records.by = Author("command", "ada")
        secret, key = added(
            records,
            name="ci",
            team="red",
            routes=("chat", "embed"),
            models=("gpt-4o*",),
            user="u",
            project="p",
            tags=("a", "b"),
            default_user="",
            expires_ns=NOON + DAY,
            metadata=(("owner", "ünal"),),
            pass_through=False,
        )
        assert found(records, secret) == FoundKey(key)
        assert records.keys() == [key]
        (change,) = records.key_history(key.id)
    assert (change.at_ns, change.change, change.key, change.by) == (
        NOON,
        "create",
        key,
        Author("command", "ada"),
    )


def test_a_rotated_key_stays_the_same_key(book: Book) -> None:
    """The new secret opens the same key, and the old one says when it ends."""
    with book.store.records("create") as records:
        old, key = added(records, name="ci")
        new, rotated, until_ns = records.rotate_key("ci", DAY, NOON + HOUR)

        assert rotated == key
        assert until_ns == NOON + HOUR + DAY
        assert found(records, new) == FoundKey(key)
        assert found(records, old) == FoundKey(key, until_ns)
        secrets = records.replaced_secrets()[key.id]
        assert [state_of(key, secrets, at) for at in (until_ns - 1, until_ns)] == [
            "rotating",
            "valid",
        ]
        assert [change.change for change in records.key_history()] == ["create", "rotate"]
        assert records.key_history()[-1].until_ns == until_ns


def test_a_rotation_never_lengthens_the_life_of_a_secret(book: Book) -> None:
    """Secrets from earlier rotations keep their end, or get the new one if that is sooner."""
    with book.store.records("create") as records:
        first, key = added(records)
        second, _, _ = records.rotate_key(key.id, HOUR, NOON)
        third, _, _ = records.rotate_key(key.id, DAY, NOON + 1)
        assert found(records, first).until_ns == NOON + HOUR
        assert found(records, second).until_ns == NOON + 1 + DAY
        fourth, _, _ = records.rotate_key(third, 0, NOON + 2)
        assert {found(records, each).until_ns for each in (first, second, third)} == {NOON + 2}
        assert found(records, fourth).until_ns is None


@pytest.mark.parametrize(
    ("expires_ns", "overlap_ns", "problem"),
    [
        (NOON + HOUR, 2 * HOUR, "before the overlap ends on 2026-11-23 14:00:00 UTC"),
        (NOON + HOUR, HOUR, ""),
        (NOON + HOUR, 0, ""),
        (None, 365 * DAY, ""),
    ],
)
def test_an_overlap_ends_by_the_key(
    book: Book, expires_ns: int | None, overlap_ns: int, problem: str
) -> None:
    """An overlap beyond the key's end is refused, and the key keeps its secret."""
    with book.store.records("create") as records:
        secret, key = added(records, expires_ns=expires_ns)
        if not problem:
            records.rotate_key(key.id, overlap_ns, NOON)
            return
        with pytest.raises(UsageError, match=problem):
            records.rotate_key(key.id, overlap_ns, NOON)
        assert found(records, secret) == FoundKey(key)
        assert len(records.key_history()) == 1


def test_what_is_over_is_not_rotated_or_changed(book: Book) -> None:
    """An expired key needs a later end first; a revoked one is gone for good."""
    with book.store.records("create") as records:
        _, key = added(records, expires_ns=NOON + HOUR)
        with pytest.raises(
            UsageError, match=r"expired on 2026-11-23 13:00:00 UTC; give it a later"
        ):
            records.rotate_key(key.id, 0, NOON + HOUR)
        with pytest.raises(UsageError, match="which is over"):
            records.change_key(key.id, lambda k: replace(k, expires_ns=NOON), NOON + HOUR)
        records.change_key(key.id, lambda k: replace(k, expires_ns=NOON + DAY), NOON + HOUR)
        records.rotate_key(key.id, 0, NOON + HOUR)
        records.revoke_key(key.id, NOON + HOUR)
        with pytest.raises(UsageError, match="is revoked"):
            records.rotate_key(key.id, 0, NOON + HOUR)
        with pytest.raises(UsageError, match="is revoked"):
            records.change_key(key.id, lambda k: replace(k, name="x"), NOON + HOUR)
        changes = [change.change for change in records.key_history()]
    assert changes == ["create", "set", "rotate", "revoke"]


def test_a_key_that_would_be_born_expired_is_refused(book: Book) -> None:
    """Nothing is written."""
    with book.store.records("create") as records:
        with pytest.raises(UsageError, match="which is over"):
            added(records, expires_ns=NOON)
        assert not records.has_keys()


def test_names_are_unique_among_valid_keys(book: Book) -> None:
    """A name is free again once its key is revoked, and names the valid key then."""
    with book.store.records("create") as records:
        _, first = added(records, name="ci")
        with pytest.raises(UsageError, match=f"the name 'ci' is taken by {first.id}"):
            added(records, name="ci")
        _, other = added(records, name="cd")
        with pytest.raises(UsageError, match=f"taken by {first.id}"):
            records.change_key("cd", lambda key: replace(key, name="ci"), NOON)
        records.revoke_key("ci", NOON)
        assert records.key("ci").id == first.id
        _, second = added(records, name="ci")
        assert records.key("ci").id == second.id
        records.revoke_key(second.id, NOON)
        with pytest.raises(
            SpanledgerError, match=rf"{first.id}, {second.id}|{second.id}, {first.id}"
        ):
            records.key("ci")
        assert records.key(other.id).name == "cd"


@pytest.mark.parametrize("name", ["key_0123456789ab", "slk_abc"])
def test_a_name_is_no_id_and_no_secret(book: Book, name: str) -> None:
    """A secret that was pasted as a name would be shown in every list."""
    with book.store.records("create") as records, pytest.raises(UsageError, match="must not begin"):
        added(records, name=name)


def test_an_unknown_reference_is_not_repeated(book: Book) -> None:
    """It may be a secret."""
    with book.store.records("create") as records, pytest.raises(SpanledgerError) as caught:
        records.key("slk_mistyped")
    assert "slk_mistyped" not in str(caught.value)


async def test_a_keys_own_budget_comes_with_it_or_not_at_all(book: Book) -> None:
    """Key and budget are one transaction: if a budget has the name, there is neither."""
    taken = Budget("key-ci", "customer", "acme", USD, "month")
    with book.store.records("create") as records:
        records.set_budgets([taken], NOON)
        key = new_key(name="ci")
        for limit in (USD, 2 * USD):  # also one that equals what is there
            budget = Budget("key-ci", "customer", "acme", limit, "month")
            with pytest.raises(UsageError, match="there is a budget 'key-ci' already"):
                records.add_keys([(key, key_digest("a"))], NOON, [budget])
        assert not records.has_keys()
        assert records.budgets() == [taken]
        own = Budget("own", "key", key.id, USD, "month")
        records.add_keys([(key, key_digest("a"))], NOON, [own])
        assert records.keys() == [key]
    reservation = book.reservation(USD // 2, key_id=key.id)
    await book.ledger.reserve(reservation)
    assert book.balance("own") == (0, USD // 2, 0)


def test_many_keys_are_added_together_or_not_at_all(book: Book) -> None:
    """Everything that is taken is listed at once; then all are there, each with its digest."""
    with book.store.records("create") as records:
        old, _ = added(records, name="k7")
        many = [(new_key(name=f"k{number}"), key_digest(f"s{number}")) for number in range(250)]
        twin = (new_key(name="twin"), key_digest(old))
        with pytest.raises(UsageError) as caught:
            records.add_keys([*many, twin], NOON, change="import")
        assert len(str(caught.value).splitlines()) == 2
        assert len(records.keys()) == 1
        records.revoke_key("k7", NOON)
        records.add_keys(many, NOON, change="import")
        assert len(records.keys()) == 251
        assert found(records, "s249").key.name == "k249"
        digests = [digest for _, digest in many]
        assert set(records.known_digests(digests)) == set(digests)
        assert records.known_digests(digests[:3]) == {d: k.id for k, d in many[:3]}


def test_a_secret_is_never_stored(book: Book) -> None:
    """Neither is it part of the history."""
    with book.store.records("create") as records:
        secret, key = added(records)
        new, _, _ = records.rotate_key(secret, DAY, NOON)
    tables = [
        raw(book.store, f"SELECT * FROM {name}") for name in ("keys", "key_secrets", "key_history")
    ]
    text = repr(tables)
    assert secret not in text
    assert new not in text
    assert key.id in text


async def test_the_last_use_is_written_once_in_a_while(book: Book) -> None:
    """A sweep writes when a key was looked up, if the ledger's time is older than ten minutes."""
    with book.store.records("create") as records:
        secret, _ = added(records)
        gone, other = added(records)
        records.revoke_key(other.id, NOON)

    async def use_and_read(secret: str = secret) -> int | None:
        await book.ledger.find_key(key_digest(secret))
        await book.ledger.sweep()
        with book.store.records("read") as records:
            return records.key(secret).last_used_ns

    assert await use_and_read() == NOON
    book.time.now = NOON + USED_EVERY_NS - 1
    assert await use_and_read() == NOON
    book.time.now = NOON + USED_EVERY_NS
    assert await use_and_read() == NOON + USED_EVERY_NS
    assert await use_and_read(gone) is None
    with book.store.records("read") as records:
        assert len(records.key_history()) == 3


async def test_a_change_keeps_the_last_use(book: Book) -> None:
    """Rotating and changing a key write it as it is."""
    with closing(book.store.records("create")) as records:
        secret, key = added(records)
        await book.ledger.find_key(key_digest(secret))
        await book.ledger.sweep()
        records.rotate_key(key.id, 0, NOON)
        records.change_key(key.id, lambda k: replace(k, name="ci"), NOON)
        assert records.key("ci").last_used_ns == NOON


def test_copies_keep_secrets_and_history(book: Book) -> None:
    """`ledger copy` copies whole tables; these are among them."""
    from spanledger.ledger.copying import SMALL_TABLES

    with book.store.records("create") as records:
        added(records)
    tables = book.store.tables()
    with closing(tables):
        for name in ("keys", "key_secrets", "key_history"):
            assert name in SMALL_TABLES
            assert len(tables.table(name)) == 1
            assert tables.sums()[name] == 1

"""Holds that outlive their request and their gateway, and what providers keep for callers."""

from __future__ import annotations

import json

from msgspec.structs import replace

from spanledger.ledger import open_ledger
from spanledger.ledger.model import Kept, KeptKind, Later, RequestEnd
from tests.service.ledger.conftest import Book
from tests.service.ledger.stores import raw

HOUR = 3_600 * 10**9
CENT = 10**7


def kept(
    number: int, kind: KeptKind = "file", customer: str = "acme", team: str = "", about: str = "{}"
) -> Kept:
    """A file or a batch."""
    return Kept(f"req_{number:024x}", kind, customer, team, "d1", f"file-{number}", number, about)


async def put_off(book: Book, hold: int = 50 * CENT, expected: int = 20 * CENT) -> str:
    """A request that ended while its attempt stays held for a day; returns the attempt's id."""
    reservation = book.reservation(hold)
    await book.ledger.reserve(reservation)
    end = RequestEnd("ok", "", 200, book.time.now)
    until_ns = book.time.now + 24 * HOUR
    request = reservation.request
    one = replace(kept(1, "batch"), request_id=request.request_id)
    await book.ledger.end_request(request, end, later=Later(until_ns, expected), kept=one)
    return reservation.attempt_id


def rows(book: Book) -> list[tuple[object, ...]]:
    """State, cost and marks of each attempt, and the cost of its request."""
    query = (
        "SELECT a.state, a.cost_nano, a.estimated, a.corrected, r.cost_nano FROM attempts a"
        " JOIN requests r USING (request_id) ORDER BY a.request_id"
    )
    return raw(book.store, query)


async def test_the_hold_stays_and_is_settled_once(book: Book) -> None:
    """After the request has ended the money is held; the cost replaces it, and no later one does."""
    book.budget()
    attempt_id = await put_off(book)
    assert book.balance() == (0, 50 * CENT, 0)
    reservation = book.reservation()
    end = replace(book.end(reservation, 7 * CENT, last=False), attempt_id=attempt_id, late=True)

    for cost in (7 * CENT, 9 * CENT):
        await book.ledger.finish(replace(end, cost_nano=cost))

    assert book.balance() == (7 * CENT, 0, 0)
    assert rows(book) == [("settled", 7 * CENT, 0, 0, 7 * CENT)]


async def test_the_hold_outlives_its_gateway(book: Book) -> None:
    """Neither the end of a lease nor a long hold expires it before its time; another process may
    settle it."""
    book.budget()
    attempt_id = await put_off(book)
    book.time.now += 23 * HOUR
    other = open_ledger(book.store, book.time.clock())
    assert await other.sweep() == 0
    end = replace(book.end(book.reservation(), CENT, last=False), attempt_id=attempt_id, late=True)
    await other.finish(end)
    await other.close()

    assert book.balance() == (CENT, 0, 0)
    await book.ledger.finish(replace(end, cost_nano=2 * CENT))  # the first one does not know
    assert rows(book) == [("settled", CENT, 0, 0, CENT)]


async def test_nobody_learned_the_cost(book: Book) -> None:
    """After its time it is charged what was expected; a late cost corrects that, once."""
    book.budget()
    attempt_id = await put_off(book)
    book.time.now += 25 * HOUR
    assert await book.ledger.sweep() == 1
    assert book.balance() == (20 * CENT, 0, 0)
    assert rows(book) == [("expired", 20 * CENT, 1, 0, 20 * CENT)]

    end = replace(book.end(book.reservation(), CENT, last=False), attempt_id=attempt_id, late=True)
    await book.ledger.finish(end)
    await book.ledger.finish(replace(end, cost_nano=2 * CENT))

    assert book.balance() == (CENT, 0, 0)
    assert rows(book) == [("settled", CENT, 0, 1, CENT)]


async def test_more_than_the_hold_is_not_expected(book: Book) -> None:
    """An estimate never exceeds its hold."""
    book.budget()
    await put_off(book, hold=CENT, expected=50 * CENT)
    book.time.now += 25 * HOUR
    await book.ledger.sweep()
    assert book.balance() == (CENT, 0, 0)


async def test_kept_things_are_their_owners(book: Book) -> None:
    """They are found by their request, and listed for one customer's team, in either order and in
    pages."""
    owners = [("acme", ""), ("acme", "red"), ("other", "")]
    for number in range(9):
        customer, team = owners[number % 3]
        start = book.reservation().request
        end = RequestEnd("ok", "", 200, book.time.now)
        about = json.dumps({"n": number})
        one = replace(kept(number, "file", customer, team, about), request_id=start.request_id)
        await book.ledger.end_request(start, end, kept=one)
        assert await book.ledger.find_kept(start.request_id) == one

    async def page(after: str = "", *, rising: bool = False, limit: int = 2) -> list[int]:
        found = await book.ledger.list_kept(
            ("acme", "red"), "file", after=after, rising=rising, limit=limit
        )
        return [json.loads(each.about)["n"] for each in found]

    assert await page() == [7, 4]
    assert await page(f"req_{5:024x}") == [1]
    assert await page(rising=True, limit=9) == [1, 4, 7]
    assert await page(f"req_{2:024x}", rising=True) == [4, 7]


async def test_what_nobody_read(book: Book) -> None:
    """Open results are listed with the end of their hold, first those that are held; what is settled,
    old or kept as a file is not."""
    book.budget()
    first = await put_off(book)
    second = await put_off(book)
    start = book.reservation().request
    end = RequestEnd("ok", "", 200, book.time.now)
    await book.ledger.end_request(start, end, kept=replace(kept(5), request_id=start.request_id))

    async def listed(since_ns: int = 0, limit: int = 9) -> list[tuple[str, str, int]]:
        found = await book.ledger.list_unread(since_ns, limit)
        return [(each.request_id, each.kind, each.until_ns - book.time.now) for each in found]

    def names(*attempts: str) -> list[tuple[str, str, int]]:
        return [(each.rpartition(".")[0], "batch", 24 * HOUR) for each in attempts]

    assert await listed() == names(first, second)
    assert await listed(limit=1) == names(first)
    assert await listed(since_ns=book.time.now + 1) == []
    done = replace(book.end(book.reservation(), CENT, last=False), attempt_id=first, late=True)
    await book.ledger.finish(done)
    assert await listed() == names(second)

    book.time.now += 25 * HOUR
    assert await book.ledger.sweep() == 1
    assert [each[2] for each in await listed()] == [-HOUR]
    third = await put_off(book)
    assert [each[0] for each in await listed()] == [
        third.rpartition(".")[0],
        second.rpartition(".")[0],
    ]


async def test_what_was_known_when_the_request_ended(book: Book) -> None:
    """The row has it from then on, for the charge of the answer and for an estimate."""
    reservation = book.reservation()
    await book.ledger.reserve(reservation)
    later = Later(book.time.now + HOUR, CENT, '{"gen_ai.response.id":"resp_1"}')
    end = RequestEnd("ok", "", 200, book.time.now)
    await book.ledger.end_request(reservation.request, end, later=later)
    request = reservation.request
    answer = await book.ledger.find_answer(request.request_id, request.operation)
    assert answer is not None
    assert answer.open
    assert answer.detail == later.detail
    book.time.now += 2 * HOUR
    await book.ledger.sweep()
    assert raw(book.store, "SELECT state, detail FROM attempts") == [("expired", later.detail)]


async def test_whose_a_file_is(book: Book) -> None:
    """By the provider's id all are found that uploaded one, whatever else has that id."""
    for customer, team, kind in (
        ("acme", "", "file"),
        ("acme", "red", "file"),
        ("acme", "red", "file"),
        ("other", "", "batch"),
    ):
        start = book.reservation().request
        one = replace(kept(1, "file", customer, team), request_id=start.request_id)
        one = replace(one, kind="batch") if kind == "batch" else one
        await book.ledger.end_request(start, RequestEnd("ok", "", 200, book.time.now), kept=one)
    assert sorted(await book.ledger.owners_of_file("file-1")) == [("acme", ""), ("acme", "red")]
    assert await book.ledger.owners_of_file("file-2") == []


async def test_kept_things_change_and_go(book: Book) -> None:
    """What is known of one may be replaced, and forgotten."""
    start = book.reservation().request
    one = replace(kept(1), request_id=start.request_id)
    await book.ledger.end_request(start, RequestEnd("ok", "", 200, book.time.now), kept=one)
    await book.ledger.change_kept(one.request_id, '{"x":1}')
    found = await book.ledger.find_kept(one.request_id)
    assert found is not None
    assert found.about == '{"x":1}'
    await book.ledger.change_kept(one.request_id, None)
    assert await book.ledger.find_kept(one.request_id) is None


async def test_pruning_forgets_what_was_kept(book: Book) -> None:
    """With a request's row goes the row of what its provider keeps."""
    start = book.reservation().request
    one = replace(kept(1), request_id=start.request_id)
    await book.ledger.end_request(start, RequestEnd("ok", "", 200, book.time.now), kept=one)
    later = book.time.now + 100 * 24 * HOUR
    pruning = book.store.prune(book.time.now + HOUR, later, unshipped=True)
    assert [done.requests for done in pruning.run()] == [1]
    pruning.close()
    assert await book.ledger.find_kept(one.request_id) is None

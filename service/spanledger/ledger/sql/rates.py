"""Rates and their shares in SQL. What a database does its own way is left to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager

from spanledger.errors import UsageError
from spanledger.ledger.sql.port import Columns, Sql
from spanledger.rates.model import Amounts, Rate, RateAccount, RateLimits
from spanledger.rates.shares import Claim, Leased, SharesNow, others_of, share_of


class SqlRates(ABC):
    """`RateRows` on one connection, which it closes."""

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    def close(self) -> None:
        """See `RateRows`."""
        self._sql.close()

    @abstractmethod
    def _alone(self, accounts: Sequence[RateAccount]) -> AbstractContextManager[None]:
        """A write transaction during which nobody else changes the shares of these accounts."""

    @abstractmethod
    def _changing(self) -> AbstractContextManager[None]:
        """A write transaction during which nobody else changes rates."""

    # rates --------------------------------------------------------------------------------

    def version(self) -> int:
        """See `RateRows`."""
        ((version,),) = self._sql.rows(_VERSION)
        return int(version)

    def rates(self) -> list[Rate]:
        """See `RateRows`."""
        return sorted((_rate(row) for row in self._sql.rows(_RATES)), key=lambda rate: rate.name)

    def set_rate(self, rate: Rate) -> Rate | None:
        """See `RateRows`."""
        with self._changing():
            before = self._named(rate.name)
            if before != rate:
                self._write(rate)
        return before

    def remove_rate(self, name: str) -> Rate | None:
        """See `RateRows`."""
        with self._changing():
            before = self._named(name)
            if before is not None:
                self._sql.run("DELETE FROM rates WHERE name = :name", name=name)
                self._sql.run(_CHANGED)
        return before

    def apply_file(self, source: str, rates: Sequence[Rate]) -> list[Rate]:
        """See `RateRows`."""
        current = self.rates()
        if not rates and not any(rate.source == source for rate in current):
            return []
        with self._changing():
            current = self.rates()
            by_name = {rate.name: rate for rate in current}
            for rate in rates:
                before = by_name.get(rate.name)
                if before is not None and not before.source:
                    raise UsageError(
                        f"rate {rate.name!r} of the file was set by command as well: remove that with"
                        f" `spanledger rate remove {rate.name}`, or give the file's another name"
                    )
            wanted = {rate.name for rate in rates}
            gone = [r for r in current if r.source == source and r.name not in wanted]
            changed = [rate for rate in rates if by_name.get(rate.name) != rate]
            for rate in gone:
                self._sql.run("DELETE FROM rates WHERE name = :name", name=rate.name)
            for rate in changed:
                self._write(rate)
            if gone and not changed:
                self._sql.run(_CHANGED)
        return [*changed, *gone]

    def _named(self, name: str) -> Rate | None:
        return next((rate for rate in self.rates() if rate.name == name), None)

    def _write(self, rate: Rate) -> None:
        self._sql.run(
            _WRITE,
            name=rate.name,
            scope=rate.scope,
            subject=rate.subject,
            **rate.limits._asdict(),
            is_default=int(rate.default),
            source=rate.source,
        )
        self._sql.run(_CHANGED)

    # shares -------------------------------------------------------------------------------

    def exchange(
        self, owner: str, asks: Sequence[Claim], now_ns: int, until_ns: int
    ) -> list[SharesNow]:
        """See `RateRows`."""
        with self._alone([ask.account for ask in asks]):
            return [self._exchange(owner, ask, now_ns, until_ns) for ask in asks]

    def _exchange(self, owner: str, ask: Claim, now_ns: int, until_ns: int) -> SharesNow:
        account = ask.account._asdict()
        rows = self._sql.rows(_SHARES, **account)
        others = others_of(
            [Leased(Amounts(*amounts), until) for who, until, *amounts in rows if who != owner],
            now_ns,
        )
        share = share_of(ask, others)
        for who, until, *_ in rows:
            if who != owner and until <= now_ns:
                self._sql.run(_FORGET, **account, owner=who)
        if any(share):
            self._sql.run(_LEASE, **account, owner=owner, until_ns=until_ns, **share._asdict())
        else:
            self._sql.run(_FORGET, **account, owner=owner)
        return SharesNow(share, others)


def _rate(row: Columns) -> Rate:
    name, scope, subject, default, source, *limits = row
    return Rate(name, scope, subject, RateLimits(*limits), bool(default), source)


_VERSION = "SELECT value FROM state WHERE key = 'rates_version'"
_CHANGED = "UPDATE state SET value = value + 1 WHERE key = 'rates_version'"
_RATES = """
SELECT name, scope, subject, is_default, source, requests, tokens, nano, in_flight FROM rates"""
_WRITE = """
INSERT INTO rates (name, scope, subject, requests, tokens, nano, in_flight, is_default, source)
VALUES (:name, :scope, :subject, :requests, :tokens, :nano, :in_flight, :is_default, :source)
ON CONFLICT (name) DO UPDATE SET scope = excluded.scope, subject = excluded.subject,
    requests = excluded.requests, tokens = excluded.tokens, nano = excluded.nano,
    in_flight = excluded.in_flight, is_default = excluded.is_default, source = excluded.source"""
_OF = "rate = :rate AND scope = :scope AND subject = :subject"
_SHARES = f"""
SELECT owner, until_ns, requests, tokens, nano, in_flight FROM rate_shares WHERE {_OF}"""  # noqa: S608 - our own
_FORGET = f"DELETE FROM rate_shares WHERE {_OF} AND owner = :owner"  # noqa: S608 - as above
_LEASE = """
INSERT INTO rate_shares (rate, scope, subject, owner, until_ns, requests, tokens, nano, in_flight)
VALUES (:rate, :scope, :subject, :owner, :until_ns, :requests, :tokens, :nano, :in_flight)
ON CONFLICT (rate, scope, subject, owner) DO UPDATE SET until_ns = excluded.until_ns,
    requests = excluded.requests, tokens = excluded.tokens, nano = excluded.nano,
    in_flight = excluded.in_flight"""

"""Make sure a file has a valid key for each customer: NAME=KEY,NAME=KEY for the demo worker.

Runs in the compose stack before the gateway, which serves other machines only once keys exist.
Keys that are still valid in the ledger are kept; the file is readable by its owner only.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from spanledger.errors import SpanledgerError
from spanledger.ledger import open_store
from spanledger.ledger.keys import key_digest


def written_keys(file: Path) -> dict[str, str]:
    """The keys in the file, by customer."""
    if not file.exists():
        return {}
    entries = (entry.partition("=") for entry in file.read_text("utf-8").strip().split(","))
    return {name: key for name, mark, key in entries if mark}


def ensure(customers: list[str], file: Path, ledger_url: str) -> list[str]:
    """Keep valid keys and create the others; returns the customers that got a new key."""
    before = written_keys(file)
    keys, made = {}, []
    with open_store(ledger_url).records("create") as records:
        for customer in customers:
            found = records.find_key(key_digest(before.get(customer, "")))
            if (
                found is not None
                and found.key.revoked_ns is None
                and found.key.customer == customer
            ):
                keys[customer] = before[customer]
            else:
                keys[customer], _ = records.create_key(customer, "", [], time.time_ns())
                made.append(customer)
    if keys != before:
        write(file, ",".join(f"{name}={key}" for name, key in keys.items()) + "\n")
    return made


def write(file: Path, text: str) -> None:
    """Write the file atomically, readable by its owner only."""
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
        output.write(text)
    new.replace(file)


def main() -> None:
    """Run the command line; never prints a key."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--customers", required=True, help="names, separated by commas")
    parser.add_argument("--file", required=True, type=Path)
    options = parser.parse_args()
    customers = [name for name in options.customers.split(",") if name]
    try:
        made = ensure(customers, options.file, os.environ["SPANLEDGER_LEDGER_URL"])
    except (SpanledgerError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(f"created keys for: {', '.join(made)}" if made else "every customer has a valid key")


if __name__ == "__main__":
    main()

"""Make sure that there are keys for an object store, and a bucket in it.

    ensure_objects.py keys FOLDER                writes the keys, for the store and for its clients
    ensure_objects.py bucket FOLDER URL NAME     makes the bucket, unless it exists

Runs in the compose stack before the store and before Tempo. The keys are generated once and never printed. Part
of the image, so it only imports the standard library.
"""

from __future__ import annotations

import configparser
import hashlib
import hmac
import json
import os
import secrets
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

STORE = "s3.json"
"""Read by SeaweedFS."""
CREDENTIALS = "credentials"
"""Read by clients, as AWS's programs and Tempo read it."""
REGION = "us-east-1"
"""Part of a signature; a store without regions accepts it."""
WITHIN_S = 60.0
"""How long a store may take until it can make a bucket."""
POLL_S = 0.5


def ensure_keys(folder: Path) -> str:
    """Write what is missing; returns a log line without the keys."""
    file = folder / CREDENTIALS
    if file.exists():
        access, secret = read_keys(folder)
        said = "the keys exist"
    else:
        access, secret = secrets.token_hex(10), secrets.token_urlsafe(30)
        said = "keys generated"
    # The store's first: clients only have keys that the store has.
    identity = {
        "name": "tempo",
        "credentials": [{"accessKey": access, "secretKey": secret}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    write(folder / STORE, json.dumps({"identities": [identity]}) + "\n")
    text = f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n"
    write(file, text)
    return said


def read_keys(folder: Path) -> tuple[str, str]:
    """The access key and its secret. Raises SystemExit if the file is damaged."""
    found = configparser.ConfigParser(interpolation=None)
    try:
        found.read_string((folder / CREDENTIALS).read_text(encoding="utf-8"))
        section = found["default"]
        return section["aws_access_key_id"], section["aws_secret_access_key"]
    except (configparser.Error, KeyError) as error:
        raise SystemExit(f"error: {folder / CREDENTIALS} is damaged: remove it") from error


def write(file: Path, text: str) -> None:
    """Write the file atomically, readable by its owner only."""
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as output:
        output.write(text)
    new.replace(file)


def signed(method: str, url: str, access: str, secret: str, now: float) -> urllib.request.Request:
    """A request without a body and a query, signed by AWS Signature Version 4."""
    place = urllib.parse.urlsplit(url)
    at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    scope = f"{at[:8]}/{REGION}/s3/aws4_request"
    nothing = hashlib.sha256(b"").hexdigest()
    named = "host;x-amz-content-sha256;x-amz-date"
    canonical = (
        f"{method}\n{place.path}\n\nhost:{place.netloc}\nx-amz-content-sha256:{nothing}\n"
        f"x-amz-date:{at}\n\n{named}\n{nothing}"
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{digest}"
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    headers = {
        "x-amz-content-sha256": nothing,
        "x-amz-date": at,
        "Authorization": f"AWS4-HMAC-SHA256 Credential={access}/{scope},"
        f" SignedHeaders={named}, Signature={signature}",
    }
    return urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 - the URL is an argument


def ensure_bucket(folder: Path, url: str, name: str) -> str:
    """Make the bucket as soon as the store can; returns a log line. Raises SystemExit."""
    access, secret = read_keys(folder)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + WITHIN_S
    while True:
        request = signed("PUT", f"{url}/{name}", access, secret, time.time())
        try:
            with opener.open(request, timeout=10):
                return f"bucket {name} made"
        except urllib.error.HTTPError as error:
            if error.code == 409:  # it exists
                return f"bucket {name} exists"
            said = f"{error.code} {error.read()[:500].decode(errors='replace')}"
        except OSError as error:
            said = str(error)
        if time.monotonic() > deadline:
            raise SystemExit(f"error: {url} makes no bucket {name}: {said}")
        time.sleep(POLL_S)


def main(arguments: list[str]) -> None:
    """Run the command line."""
    try:
        match arguments:
            case ["keys", folder]:
                print(ensure_keys(Path(folder)))
            case ["bucket", folder, url, name]:
                print(ensure_bucket(Path(folder), url, name))
            case _:
                raise SystemExit(__doc__)
    except OSError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main(sys.argv[1:])

"""Check whether a URL is ready: exits with 0 if it answers 200.

Part of the image, for health checks, so it only imports what it needs of the standard library.
It ignores proxies set in the environment.
"""

from __future__ import annotations

import http.client
import sys
import time

TIMEOUT_S = 3.0
PAUSE_S = 0.5
USAGE = "usage: check_ready.py [--within SECONDS] http://HOST:PORT/PATH"


def problem_at(url: str) -> str | None:
    """Why the URL is not ready, or None."""
    scheme, _, rest = url.partition("://")
    address, slash, path = rest.partition("/")
    if scheme != "http" or not slash:
        raise SystemExit(USAGE)
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
    try:
        connection.request("GET", slash + path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"{url}: {error}"
    finally:
        connection.close()
    return None if status == 200 else f"{url}: status {status}"


def main(arguments: list[str]) -> None:
    """Check once, or repeatedly until the time is up."""
    within_s = 0.0
    if len(arguments) == 3 and arguments[0] == "--within":
        within_s = float(arguments[1])
        arguments = arguments[2:]
    if len(arguments) != 1:
        raise SystemExit(USAGE)
    deadline = time.monotonic() + within_s
    while problem := problem_at(arguments[0]):
        if time.monotonic() >= deadline:
            raise SystemExit(problem)
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main(sys.argv[1:])

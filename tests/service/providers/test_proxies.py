"""`HTTPS_PROXY` and the like: which requests use a proxy, and what a proxy's refusal means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from urllib.parse import quote

import pytest
import uvloop

from spanledger.errors import ConfigError
from spanledger.providers.http import HttpProvider
from spanledger.providers.proxies import WayOut
from tests.service.providers.proxying import HOST, PASSWORD, USER, certificate, proxied
from tests.service.providers.samples import ANSWER, DONE, STREAM, failure
from tests.service.providers.scripted import Scripted, ask, call, collect, deployment

PROXY = "http://proxy.corp:3128"
PAIR = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}"


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        ({}, "https://a.example/v1", None),
        ({"HTTPS_PROXY": PROXY}, "https://a.example/v1", PROXY),
        ({"https_proxy": PROXY}, "https://a.example/v1", PROXY),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other:1"}, "https://a.example", PROXY),
        ({"HTTPS_PROXY": PROXY}, "http://a.example/v1", None),
        ({"HTTP_PROXY": PROXY}, "http://a.example/v1", PROXY),
        ({"HTTP_PROXY": PROXY}, "https://a.example/v1", None),
        ({"ALL_PROXY": PROXY}, "https://a.example/v1", PROXY),
        ({"ALL_PROXY": "http://other:1", "HTTPS_PROXY": PROXY}, "https://a.example", PROXY),
        ({"HTTPS_PROXY": ""}, "https://a.example", None),
        ({"HTTPS_PROXY": "proxy.corp:3128"}, "https://a.example", PROXY),
        ({"HTTPS_PROXY": "http://proxy.corp"}, "https://a.example", "http://proxy.corp:80"),
        ({"HTTPS_PROXY": "http://u:p@[::1]:8"}, "https://a.example", "http://[::1]:8"),
    ],
)
def test_which_variable_counts(environ: dict[str, str], url: str, proxy: str | None) -> None:
    """Lower case wins over upper case, a scheme's own variable over `ALL_PROXY`, and empty means
    unset."""
    found = WayOut.from_environ(environ).proxy_for(url)

    assert (found and found.url) == proxy


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("a.example", "https://a.example/v1", True),
        ("A.Example.", "https://a.example./v1", True),
        ("example", "https://a.example/v1", True),
        (".example", "https://a.example/v1", True),
        ("*.example", "https://a.example/v1", True),
        (".a.example", "https://a.example/v1", True),
        ("ample", "https://a.example/v1", False),
        ("b.a.example", "https://a.example/v1", False),
        ("x, a.example ,y", "https://a.example/v1", True),
        ("x a.example", "https://a.example/v1", True),
        ("*", "https://a.example/v1", True),
        ("x,*", "https://a.example/v1", True),
        ("a.example:443", "https://a.example/v1", True),
        ("a.example:8443", "https://a.example/v1", False),
        ("a.example:8443", "https://a.example:8443/v1", True),
        ("10.0.0.7", "https://10.0.0.7/v1", True),
        ("10.0.0.7:8000", "https://10.0.0.7:8000/v1", True),
        ("10.0.0.7", "https://10.0.0.70/v1", False),
        ("0.7", "https://10.0.0.7/v1", False),
        ("10.0.0.0/8", "https://10.9.9.9/v1", True),
        ("10.0.0.1/8", "https://10.9.9.9/v1", True),
        ("10.0.0.0/8", "https://11.9.9.9/v1", False),
        ("10.0.0.0/8", "https://ten.example/v1", False),
        ("10.0.0.0/99", "https://10.9.9.9/v1", False),
        ("fd00::/8", "https://[fd00::7]/v1", True),
        ("fd00::7", "https://[fd00::7]:8/v1", True),
        ("[fd00::7]:8", "https://[fd00::7]:8/v1", True),
        ("", "https://localhost:8000/v1", True),
        ("", "https://api.localhost/v1", True),
        ("", "https://127.9.9.9/v1", True),
        ("", "https://[::1]:8000/v1", True),
        ("", "https://localhost.example/v1", False),
        (" , ,", "https://a.example/v1", False),
    ],
)
def test_who_is_asked_directly(no_proxy: str, url: str, direct: bool) -> None:
    """Hosts, their subdomains, ports and networks; and always this machine."""
    way = WayOut.from_environ({"ALL_PROXY": PROXY, "NO_PROXY": no_proxy})

    assert (way.proxy_for(url) is None) == direct


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"ALL_PROXY": "socks5://u:secret@h:1"}, "ALL_PROXY: socks5 proxies are not supported"),
        ({"https_proxy": "http://"}, "https_proxy: not the URL of a proxy"),
        ({"HTTPS_PROXY": "http://u:secret@h:x"}, "HTTPS_PROXY: not the URL of a proxy"),
        ({"REQUESTS_CA_BUNDLE": "/no/such/file"}, "REQUESTS_CA_BUNDLE: .* does not exist"),
    ],
)
def test_what_cannot_be_used_is_an_error(environ: dict[str, str], message: str) -> None:
    """An unusable proxy is an error, so that no request goes another way; the message has no
    password."""
    with pytest.raises(ConfigError, match=message) as caught:
        WayOut.from_environ(environ)

    assert "secret" not in str(caught.value)


def test_a_password_is_not_shown() -> None:
    """The password is neither in the log lines nor in a repr."""
    way = WayOut.from_environ(
        {"HTTPS_PROXY": "http://ann:hunter2@proxy.corp:3128", "NO_PROXY": "x"}
    )

    [line] = way.describe()
    assert line == (
        "https requests to providers go through the proxy http://proxy.corp:3128"
        " (HTTPS_PROXY), except to x"
    )
    assert "hunter2" not in repr(way)
    assert "YW5u" not in repr(way)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_tunnel_to_a_provider(tmp_path: Path, stream: bool) -> None:
    """HTTPS goes through CONNECT with the proxy's password, which the provider does not see; the
    proxy does not see the provider's key; certificates are verified against the bundle."""
    bundle, tls = certificate(tmp_path)
    async with proxied(tls=tls, password=True) as (proxy, upstream):
        environ = {
            "HTTPS_PROXY": proxy.url.replace("//", f"//{PAIR}@"),
            "REQUESTS_CA_BUNDLE": str(bundle),
        }
        provider = HttpProvider(way_out=WayOut.from_environ(environ))
        wanted = call(deployment(f"https://{HOST}/v1"), ask())
        for _ in range(2):
            if stream:
                upstream.events(b"".join(STREAM) + DONE)
                assert await collect(provider, wanted)
            else:
                upstream.json(200, ANSWER)
                await provider.complete(wanted)
        await provider.close()

    assert {line for line, _ in proxy.asked} == {f"CONNECT {HOST}:443 HTTP/1.1"}
    assert len(upstream.requests) == 2
    assert all("proxy-authorization" not in r.headers for r in upstream.requests)
    assert upstream.requests[0].headers["host"] == HOST
    assert upstream.requests[0].headers["authorization"].startswith("Bearer ")


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_proxy_behind_tls(
    tmp_path: Path, run: Callable[[Coroutine[None, None, None]], None], scheme: str
) -> None:
    """A proxy may itself be reached over TLS, for plain requests and for tunnels, in the gateway's
    event loop as in Python's."""
    folders = tmp_path / "proxy", tmp_path / "provider"
    for folder in folders:
        folder.mkdir()
    (theirs, proxy_tls), (ours, tls) = (
        certificate(folders[0], "localhost"),
        certificate(folders[1]),
    )
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(theirs.read_bytes() + ours.read_bytes())

    async def ask_through() -> None:
        inner = tls if scheme == "https" else None
        async with proxied(tls=inner, proxy_tls=proxy_tls) as (proxy, upstream):
            where = f"https://localhost:{proxy.port}"
            way = WayOut.from_environ({"ALL_PROXY": where, "SSL_CERT_FILE": str(bundle)})
            provider = HttpProvider(way_out=way)
            upstream.json(200, ANSWER)
            await provider.complete(call(deployment(f"{scheme}://{HOST}"), ask()))
            await provider.close()
            assert len(proxy.asked) == len(upstream.requests) == 1

    run(ask_through())


async def test_a_certificate_out_of_nowhere_is_not_trusted(tmp_path: Path) -> None:
    """Without the bundle the same tunnel fails, and nothing is sent."""
    _, tls = certificate(tmp_path)
    async with proxied(tls=tls) as (proxy, upstream):
        provider = HttpProvider(way_out=WayOut.from_environ({"HTTPS_PROXY": proxy.url}))
        error = await failure(provider, call(deployment(f"https://{HOST}/v1"), ask()))
        await provider.close()

    assert (error.kind, error.billed) == ("connection_error", "no")
    assert upstream.requests == []


async def test_a_plain_request_through_a_proxy() -> None:
    """HTTP requests go to the proxy with the full URL and its password."""
    async with proxied(password=True) as (proxy, upstream):
        way = WayOut.from_environ({"HTTP_PROXY": proxy.url.replace("//", f"//{PAIR}@")})
        provider = HttpProvider(way_out=way)
        upstream.json(200, ANSWER)
        await provider.complete(call(deployment("http://vllm.corp:8000/v1"), ask()))
        await provider.close()

    [(line, given)] = proxy.asked
    assert line == "POST http://vllm.corp:8000/v1/chat/completions HTTP/1.1"
    assert given is not None
    assert "proxy-authorization" not in upstream.requests[0].headers


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("scheme", "status"), [("http", 407), ("https", 407), ("https", 403), ("https", 502)]
)
async def test_a_proxys_refusal_is_not_the_callers_fault(
    scheme: str, status: int, kind: str
) -> None:
    """It is a failed connection: free, and another deployment may serve."""
    async with proxied() as (proxy, _):
        proxy.answer = status
        way = WayOut.from_environ({"ALL_PROXY": proxy.url})
        provider = HttpProvider(way_out=way)
        target = deployment(f"{scheme}://{HOST}", "openai" if kind == "openai" else "anthropic")
        error = await failure(provider, call(target, ask(max_tokens=5)))
        await provider.close()

    assert (error.kind, error.billed) == ("connection_error", "no")
    assert "the proxy refused" in str(error)
    assert str(status) in str(error)


async def test_a_proxy_that_is_away() -> None:
    """The error names the proxy as unreachable."""
    provider = HttpProvider(way_out=WayOut.from_environ({"ALL_PROXY": "http://127.0.0.1:1"}))
    error = await failure(provider, call(deployment(f"https://{HOST}"), ask()))
    await provider.close()

    assert error.kind == "connection_error"
    assert "cannot connect to the proxy" in str(error)


async def test_this_machine_is_asked_directly(server: Scripted) -> None:
    """A local server is reached although the configured proxy is unreachable."""
    provider = HttpProvider(way_out=WayOut.from_environ({"ALL_PROXY": "http://127.0.0.1:1"}))
    server.json(200, ANSWER)
    await provider.complete(call(deployment(server.url), ask()))
    await provider.close()

    assert len(server.requests) == 1

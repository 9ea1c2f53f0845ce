"""The port is ours from `bind` on, and open from `listen` on."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest

from app.core.errors import SettingError
from app.startup import listening


@contextlib.contextmanager
def bound(host: str, port: int = 0) -> Iterator[listening.Sockets]:
    sockets = listening.bind(host, port)
    try:
        yield sockets
    finally:
        listening.close(sockets)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


NEEDS_IPV6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


def test_nobody_else_gets_it_before_it_is_open() -> None:
    with bound("127.0.0.1") as (sock,):
        port = sock.getsockname()[1]
        with pytest.raises(SettingError, match=f"{port} is in use on 127.0.0.1") as refused:
            listening.bind("127.0.0.1", port)
        assert refused.value.setting == "port"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=30)
        listening.listen([sock])
        socket.create_connection(("127.0.0.1", port), timeout=30).close()


def test_connections_of_a_former_server_are_not_in_the_way() -> None:
    with bound("127.0.0.1") as (sock,):
        port = sock.getsockname()[1]
        listening.listen([sock])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            sock.accept()[0].close()  # who closes first waits (TIME_WAIT)
            assert client.recv(1) == b""
    with bound("127.0.0.1", port) as again:
        listening.listen(again)


@NEEDS_IPV6
def test_ipv6_and_all_addresses_share_one_free_port() -> None:
    for host, url in (("::1", "http://[::1]:{}/"), ("::", "http://[::1]:{}/")):
        with bound(host) as sockets:
            assert listening.url_of(sockets, host) == url.format(sockets[0].getsockname()[1])
    with bound("") as sockets:
        ports = {sock.getsockname()[1] for sock in sockets}
        assert len(ports) == 1
        assert {sock.family for sock in sockets} == {socket.AF_INET, socket.AF_INET6}


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("localhost", "localhost"), ("0.0.0.0", "127.0.0.1")]
)
def test_the_address_of_the_page(host: str, shown: str) -> None:
    with bound(host) as sockets:
        assert listening.url_of(sockets, host) == f"http://{shown}:{sockets[0].getsockname()[1]}/"


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("192.0.2.1", "is not an address of this machine"),
        ("host.invalid", "cannot be resolved"),
        ("a..b", "cannot be resolved"),
        ("127.0.0.1:80", "cannot be resolved"),
    ],
)
def test_wrong_hosts(host: str, words: str) -> None:
    with pytest.raises(SettingError, match=words) as refused:
        listening.bind(host, 0)
    assert refused.value.setting == "host"


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """Without TCP_NODELAY the second part of an answer waits some 40 ms for a client that acknowledges late."""
    assert asyncio.run(nodelay_of_a_connection()) != 0


async def nodelay_of_a_connection() -> int:
    found: asyncio.Queue[int] = asyncio.Queue()

    async def look(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.put_nowait(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    with bound("127.0.0.1") as (sock,):
        async with await asyncio.start_server(look, sock=sock):
            _, writer = await asyncio.open_connection(*sock.getsockname())
            with contextlib.closing(writer):
                return await found.get()

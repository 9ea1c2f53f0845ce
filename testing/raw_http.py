"""HTTP as bytes."""

import socket
import time
from contextlib import suppress

from testing.serving import Live


def connect(live: Live) -> socket.socket:
    host, port = live.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), 10)


def talk(live: Live, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """Everything the server says until it closes, or says nothing for a while. Listens between the pieces, too."""
    said = b""
    with connect(live) as sock:
        for piece in (*pieces, b""):
            with suppress(ConnectionError):
                sock.sendall(piece)
            end = time.perf_counter() + (pause_s if piece else 3)
            while (left := end - time.perf_counter()) > 0:
                sock.settimeout(left)
                try:
                    data = sock.recv(65536)
                except (TimeoutError, ConnectionError):
                    break
                if not data:
                    return said
                said += data
    return said


def request(head: bytes, body: bytes = b"", method: bytes = b"POST", path: bytes = b"/predict") -> bytes:
    return method + b" " + path + b" HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n" + body


CONFUSING = {
    "length and chunks": (request(b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), 400),
    "chunks and length": (request(b"Transfer-Encoding: chunked\r\nContent-Length: 400\r\n", b"0\r\n\r\n"), 400),
    "two lengths": (request(b"Content-Length: 0\r\nContent-Length: 35\r\n"), 400),
    "a list of lengths": (request(b"Content-Length: 0, 35\r\n"), 400),
    "negative length": (request(b"Content-Length: -1\r\n"), 400),
    "signed length": (request(b"Content-Length: +35\r\n"), 400),
    "hexadecimal length": (request(b"Content-Length: 0x23\r\n"), 400),
    "length of another alphabet": (request("Content-Length: ٣\r\n".encode()), 400),
    "length without end": (request(b"Content-Length: " + b"9" * 400 + b"\r\n"), 400),
    "unknown encoding": (request(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), 501),
    "hidden encoding": (request(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"), 501),
    "encoding twice": (request(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), 501),
    "space before the colon": (request(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"), 400),
    "folded first header": (b"POST /predict HTTP/1.1\r\n Host: x\r\n\r\n", 400),
    "chunk size of no number": (request(b"Transfer-Encoding: chunked\r\n", b"zz\r\n\r\n"), 400),
    "chunk size with a sign": (request(b"Transfer-Encoding: chunked\r\n", b"-1\r\n\r\n"), 400),
    "chunk size with 0x": (request(b"Transfer-Encoding: chunked\r\n", b"0x4\r\nabcd\r\n0\r\n\r\n"), 400),
    "chunk size without end": (request(b"Transfer-Encoding: chunked\r\n", b"f" * 300 + b"\r\n"), 400),
    "chunk longer than its size": (request(b"Transfer-Encoding: chunked\r\n", b"2\r\nabcd\r\n0\r\n\r\n"), 400),
    "HTTP/1.0 in chunks": (b"POST /predict HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "two hosts": (request(b"Host: y\r\n"), 400),
    "no host": (b"GET /livez HTTP/1.1\r\n\r\n", 400),
    "two content types": (
        request(b"Content-Type: image/png\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n"),
        400,
    ),
    "two keys": (request(b"X-API-Key: a\r\nX-API-Key: b\r\nContent-Length: 0\r\n"), 400),
    "two keys in two headers": (request(b"X-API-Key: a\r\nAuthorization: Bearer b\r\nContent-Length: 0\r\n"), 400),
    "two request ids": (request(b"X-Request-ID: a\r\nX-Request-ID: b\r\nContent-Length: 0\r\n"), 400),
    "two ranges": (request(b"Range: bytes=0-1\r\nRange: bytes=0-2\r\n", method=b"GET", path=b"/"), 400),
    "a host of no name": (b"GET /tasks/ HTTP/1.1\r\nHost: a/b?c#d\r\n\r\n", 400),
    "a tunnel": (b"CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a name as target": (request(b"", method=b"GET", path=b"evil.example:80"), 400),
    "a file as target": (request(b"", method=b"GET", path=b"file:///etc/passwd"), 400),
    "a URL without a host": (request(b"", method=b"GET", path=b"http:///livez"), 400),
    "everything, but no question": (request(b"", method=b"GET", path=b"*"), 400),
    "zero byte": (request(b"X: a\0b\r\n"), 400),
    "bare carriage return": (request(b"X: a\rTransfer-Encoding: chunked\r\n"), 400),
    "no HTTP": (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 hello\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/0.9": (b"GET /livez\r\n\r\n", 400),
    "long head at once": (request(b"X: " + b"a" * 60_000 + b"\r\n"), 431),
    "many headers": (request(b"".join(b"X-%d: a\r\n" % i for i in range(200))), 431),
    "long path": (request(b"", method=b"GET", path=b"/" + b"a" * 60_000), 431),
    "head without end": (request(b"X: " + b"a" * 60_000)[:-4], 431),
}

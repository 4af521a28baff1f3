"""Request bytes → answer and fate of the connection: whole, byte by byte, after another request, and split anywhere."""

# ruff: noqa: E501 - a row of the table is a line

import asyncio
import gzip
import random
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sources.harness import Open, Setup
from tests.sources.memory_door import converse
from tests.support.raw_http import bytewise, post

BODY = b'{"ok":1}'
NONE: Sequence[bytes] = ()
ONE: Sequence[bytes] = (BODY,)


class Case(NamedTuple):
    name: str
    request: bytes
    statuses: Sequence[int]
    events: Sequence[bytes] = NONE
    closes: bool = False
    bodiless: bool = False
    """The last answer has no body: it is one to HEAD."""


def chunked(data: bytes, headers: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"POST /v2/ HTTP/%s\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n%s\r\n%s" % (version, headers, data)


def line(first: bytes, headers: bytes = b"Host: localhost\r\n", body: bytes = b"") -> bytes:
    return first + b"\r\n" + headers + b"\r\n" + body


def packed(coding: bytes, data: bytes) -> bytes:
    return post(data, b"Content-Encoding: %s\r\n" % coding)


RAW = zlib.compressobj(wbits=-15)
RAW_DEFLATE = RAW.compress(BODY) + RAW.flush()
LENGTH = b"Host: localhost\r\nContent-Length: 8\r\n"
JAVA = (
    b"Connection: Upgrade, HTTP2-Settings\r\nContent-Length: 8\r\nHost: localhost\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nUpgrade: h2c\r\nUser-Agent: Java-http-client/17.0.9\r\n"
)
"""As the JDK's HttpClient asks by default."""
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"

ACCEPTED = [
    Case("a plain request", post(), [200], ONE),
    Case("two requests in one write", post() + post(), [200, 200], [BODY, BODY]),
    Case("an array", post(b'[{"ok":1},{"ok":2}]'), [200], [b'{"ok":1}', b'{"ok":2}']),
    Case("an empty array", post(b"[]"), [200]),
    Case("empty lines before the request", b"\r\n\r\n" + post(), [200], ONE),
    Case("header names in any case", line(b"POST /v2/ HTTP/1.1", b"hOST: localhost\r\ncONTENT-lENGTH: 8\r\n", BODY), [200], ONE),
    Case("spaces around a value", line(b"POST /v2/ HTTP/1.1", b"Host:  localhost \t\r\nContent-Length:8 \r\n", BODY), [200], ONE),
    Case("an absolute target", line(b"POST http://localhost:8765/v2/?x=1 HTTP/1.1", LENGTH, BODY), [200], ONE),
    Case("a percent-encoded path", line(b"POST /v2/%6eamespace/com%2Eexample/ HTTP/1.1", LENGTH, BODY), [200], ONE),
    Case("no trailing slash", line(b"POST /v2 HTTP/1.1", LENGTH, BODY), [200], ONE),
    Case("another success status", line(b"POST /events HTTP/1.1", LENGTH, BODY), [202], ONE),
    Case("HTTP/1.0 with keep-alive", line(b"POST /v2/ HTTP/1.0", b"Connection: keep-alive\r\nContent-Length: 8\r\n", BODY), [200], ONE),
    Case("HTTP/1.0 closes", line(b"POST /v2/ HTTP/1.0", b"Content-Length: 8\r\n", BODY), [200], ONE, closes=True),
    Case("several spaces in the request line", line(b"POST  /v2/   HTTP/1.1", LENGTH, BODY), [200], ONE),
    Case("RTSP/1.0 in the target", line(b"POST /v2/?RTSP/1.0 HTTP/1.1", LENGTH, BODY), [200], ONE),
    Case("RTSP/1.0 in the first header", line(b"POST /v2/ HTTP/1.1", b"X: RTSP/1.0\r\nX:/v2/ RTSP/1.0\r\n" + LENGTH, BODY), [200], ONE),
    Case("a request line of RTSP in a header", post(headers=b"X: POST /v2/ RTSP/1.0\r\n"), [200], ONE),
    Case("a request line of RTSP in a body", post(b'[{"ok":1}\r\n\r\nPOST /v2/ RTSP/1.0\r\n'), [400]),
    Case("a request line of RTSP in a chunked body", chunked(b"1f\r\n[\r\n0\r\n\r\nPOST /v2/ RTSP/1.0\r\n\r\n]\r\n0\r\n\r\n"), [400]),
    Case("RTSP/1.0 in a chunk extension and in a trailer", chunked(b'8;a=" RTSP/1.0"\r\n' + BODY + b"\r\n0\r\nX: /v2/ RTSP/1.0\r\n\r\n"), [200], ONE),
    Case("Connection: close", post(headers=b"Connection: close\r\n"), [200], ONE, closes=True),
    Case("what follows Connection: close is not read", post(headers=b"Connection: close\r\n") + post(), [200], ONE, closes=True),
    Case("chunked", chunked(b'3\r\n{"o\r\n5\r\nk":1}\r\n0\r\n\r\n'), [200], ONE),
    Case("chunked in any case, extensions, trailers", chunked(b'8;a=b;c="d"\r\n' + BODY + b"\r\n0;z\r\nX-T: 1\r\nHost: evil\r\n\r\n").replace(b"chunked", b"Chunked"), [200], ONE),
    Case("chunk sizes in either case and with zeros", chunked(b"0008\r\n" + BODY + b"\r\n00\r\n\r\n"), [200], ONE),
    Case("a trailer that says close", chunked(b"8\r\n" + BODY + b"\r\n0\r\nConnection: close\r\n\r\n"), [200], ONE, closes=True),
    Case("gzip", packed(b"gzip", gzip.compress(BODY)), [200], ONE),
    Case("x-gzip", packed(b"X-GZIP", gzip.compress(BODY)), [200], ONE),
    Case("gzip with two members", packed(b"gzip", gzip.compress(BODY[:3]) + gzip.compress(BODY[3:])), [200], ONE),
    Case("deflate", packed(b"deflate", zlib.compress(BODY)), [200], ONE),
    Case("raw deflate", packed(b"deflate", RAW_DEFLATE), [200], ONE),
    Case("identity", packed(b"identity", BODY), [200], ONE),
    Case("gzip, chunked", chunked(b"%x\r\n%s\r\n0\r\n\r\n" % (len(gzip.compress(BODY)), gzip.compress(BODY)), b"Content-Encoding: gzip\r\n"), [200], ONE),
    Case("Expect", post(headers=b"Expect: 100-continue\r\n"), [100, 200], ONE),
    Case("Expect after another request", post() + post(headers=b"Expect: 100-Continue\r\n"), [200, 100, 200], [BODY, BODY]),
    Case("Expect from HTTP/1.0 is ignored", line(b"POST /v2/ HTTP/1.0", b"Expect: 100-continue\r\nConnection: keep-alive\r\nContent-Length: 8\r\n", BODY), [200], ONE),
    Case("Expect without a body", line(b"POST /v2/ HTTP/1.1", b"Host: localhost\r\nExpect: 100-continue\r\nContent-Length: 0\r\n"), [400]),
    Case("Expect of a GET with a body", line(b"GET / HTTP/1.1", LENGTH + b"Expect: 100-continue\r\n", BODY), [100, 200]),
    Case("Expect of a HEAD with a body", line(b"HEAD / HTTP/1.1", LENGTH + b"Expect: 100-continue\r\n", BODY), [100, 200], bodiless=True),
    Case("Expect of OPTIONS with a body", line(b"OPTIONS /v2/ HTTP/1.1", LENGTH + b"Expect: 100-continue\r\n", BODY), [100, 204]),
    Case("Expect of OPTIONS * with a chunked body", chunked(b"8\r\n" + BODY + b"\r\n0\r\n\r\n", b"Expect: 100-continue\r\n").replace(b"POST /v2/", b"OPTIONS *"), [100, 204]),
    Case("Expect of a GET without a body", line(b"GET / HTTP/1.1", b"Host: localhost\r\nExpect: 100-continue\r\n"), [200]),
    Case("Upgrade: h2c is ignored", post(headers=UPGRADE), [200], ONE),
    Case("Upgrade with a chunked body", chunked(b"8\r\n" + BODY + b"\r\n0\r\n\r\n", UPGRADE), [200], ONE),
    Case("Upgrade, then another request", post(headers=UPGRADE) + post(), [200, 200], [BODY, BODY]),
    Case("Upgrade without a body", line(b"GET / HTTP/1.1", b"Host: localhost\r\n" + UPGRADE), [200]),
    Case("Upgrade with Connection: close", post(headers=UPGRADE.replace(b"Upgrade, ", b"Upgrade, close, ")), [200], ONE, closes=True),
    Case("Upgrade with gzip", post(gzip.compress(BODY), UPGRADE + b"Content-Encoding: gzip\r\n"), [200], ONE),
    Case("Upgrade with an unwanted body", post(headers=UPGRADE).replace(b"/v2/", b"/nope"), [404]),
    Case("trailers about Upgrade", chunked(b"8\r\n" + BODY + b"\r\n0\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n") + post(), [200, 200], [BODY, BODY]),
    Case("Java's default client", line(b"POST /v2/ HTTP/1.1", JAVA, BODY), [200], ONE),
    Case("Java's default client, twice", line(b"POST /v2/ HTTP/1.1", JAVA, BODY) * 2, [200, 200], [BODY, BODY]),
    Case("Upgrade with Expect", post(headers=UPGRADE + b"Expect: 100-continue\r\n"), [100, 200], ONE),
    Case("Upgrade to websocket", line(b"GET / HTTP/1.1", b"Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n"), [200]),
    Case("a length with thousands of zeros before it", post().replace(b"Length: 8", b"Length: %s8" % (b"0" * 4_300)), [200], ONE),
    Case("a length with zeros before it", post().replace(b"Length: 8", b"Length: 0008"), [200], ONE),
    Case("a chunk size of zeros only at the end", chunked(b"8\r\n" + BODY + b"\r\n0000\r\n\r\n"), [200], ONE),
    Case("an empty header", post(headers=b"X:\r\n"), [200], ONE),
    Case("a header that is not ASCII", post(headers=b"X: \xc3\xa9\xff\r\n"), [200], ONE),
    Case("a Referer that looks like a request", post(headers=b"Referer: POST /v2/ HTTP/1.1\r\n"), [200], ONE),
    Case("a body that looks like a request", post(b'{"ok":"POST /v2/ HTTP/1.1\\r\\nHost: x"}'), [200], [b'{"ok":"POST /v2/ HTTP/1.1\\r\\nHost: x"}']),
    Case("OPTIONS with a body", line(b"OPTIONS /v2/ HTTP/1.1", LENGTH, BODY), [204]),
    Case("HEAD", line(b"HEAD / HTTP/1.1"), [200], bodiless=True),
    Case("OPTIONS", line(b"OPTIONS /v2/ HTTP/1.1"), [204]),
    Case("OPTIONS /", line(b"OPTIONS / HTTP/1.1"), [204]),
    Case("OPTIONS *", line(b"OPTIONS * HTTP/1.1"), [204]),
    Case("GET /", line(b"GET / HTTP/1.1"), [200]),
    Case("GET / with a body", line(b"GET / HTTP/1.1", LENGTH, BODY), [200]),
]  # fmt: skip

REFUSED = [
    Case("no such path", line(b"POST /nope HTTP/1.1", LENGTH, BODY), [404]),
    Case("no such path, then a good request", line(b"POST /nope HTTP/1.1", LENGTH, BODY) + post(), [404, 200], ONE),
    Case("a wrong method", line(b"GET /v2/ HTTP/1.1"), [405]),
    Case("HEAD where events go", line(b"HEAD /v2/ HTTP/1.1"), [405], bodiless=True),
    Case("HEAD of nothing", line(b"HEAD /nope HTTP/1.1"), [404], bodiless=True),
    Case("a wrong method with a wrong query", line(b"GET /events?destination=nope HTTP/1.1"), [405]),
    Case("a wrong method with a chunked body", chunked(b"8\r\n" + BODY + b"\r\n0\r\n\r\n").replace(b"POST", b"PUT"), [405]),
    Case("not JSON", post(b"nonsense"), [400]),
    Case("no body", line(b"POST /v2/ HTTP/1.1"), [400]),
    Case("no valid event", post(b'[{"no":1}]'), [400]),
    Case("an unknown content encoding", packed(b"br", BODY), [415]),
    Case("an unknown content encoding, then a good request", packed(b"br", BODY) + post(), [415, 200], ONE),
    Case("two content encodings", packed(b"gzip, gzip", BODY), [415]),
    Case("an unknown ack", line(b"POST /v2/?ack=maybe HTTP/1.1", LENGTH, BODY), [400]),
    Case("an unknown strict", line(b"POST /v2/?strict=maybe HTTP/1.1", LENGTH, BODY), [400]),
    Case("a bad timeout", line(b"POST /v2/?timeout=nan HTTP/1.1", LENGTH, BODY), [400]),
]  # fmt: skip

CLOSED = [
    Case("CONNECT", line(b"CONNECT localhost:80 HTTP/1.1"), [405]),
    Case("HTTP/2.0", line(b"POST /v2/ HTTP/2.0", LENGTH, BODY), [505]),
    Case("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]),
    Case("HTTP/1.2", line(b"POST /v2/ HTTP/1.2", LENGTH, BODY), [400]),
    Case("HTTP/0.9", b"POST /v2/\r\n\r\n", [505]),
    Case("an unknown method", line(b"FROB /v2/ HTTP/1.1"), [400]),
    Case("a method in lower case", line(b"post /v2/ HTTP/1.1", LENGTH, BODY), [400]),
    Case("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", [400]),
    Case("HTTP/1.01", line(b"POST /v2/ HTTP/1.01", LENGTH, BODY), [400]),
    Case("another protocol", line(b"POST /v2/ SIP/2.0", LENGTH, BODY), [400]),
    Case("RTSP/1.0, which llhttp reads as HTTP/1.0", line(b"POST /v2/ RTSP/1.0", LENGTH, BODY), [400]),
    Case("RTSP/1.1, which llhttp reads as HTTP/1.1", line(b"POST /v2/ RTSP/1.1", LENGTH, BODY), [400]),
    Case("RTSP/1.0 behind several spaces and empty lines", b"\r\n\r\n" + line(b"POST  /v2/   RTSP/1.0", LENGTH, BODY), [400]),
    Case("RTSP/1.0 of a GET", line(b"GET / RTSP/1.0"), [400]),
    Case("RTSP/2.0", line(b"POST /v2/ RTSP/2.0", LENGTH, BODY), [505]),
    Case("a method of RTSP", line(b"DESCRIBE /v2/ RTSP/1.0"), [400]),
    Case("ICE/1.0, which llhttp reads as HTTP/1.0", line(b"SOURCE /v2/ ICE/1.0", LENGTH, BODY), [400]),
    Case("a method of Icecast", line(b"SOURCE /v2/ HTTP/1.1", LENGTH, BODY), [400]),
    Case("http/1.1 in lower case", line(b"POST /v2/ http/1.1", LENGTH, BODY), [400]),
    Case("a tab in the request line", line(b"POST\t/v2/ HTTP/1.1", LENGTH, BODY), [400]),
    Case("a space behind the version", line(b"POST /v2/ HTTP/1.1 ", LENGTH, BODY), [400]),
    Case("a space before the method", line(b" POST /v2/ HTTP/1.1", LENGTH, BODY), [400]),
    Case("a target with a space", line(b"POST /v2/ /x HTTP/1.1", LENGTH, BODY), [400]),
    Case("two Hosts from HTTP/1.0", line(b"POST /v2/ HTTP/1.0", LENGTH + b"Host: localhost\r\n", BODY), [400]),
    Case("a tab that folds a header", line(b"POST /v2/ HTTP/1.1", b"Host: localhost\r\nX: y\r\n\tz\r\n"), [400]),
    Case("a space before the first header", line(b"POST /v2/ HTTP/1.1", b" Host: localhost\r\n"), [400]),
    Case("a tab before the colon", post().replace(b"Host:", b"Host\t:"), [400]),
    Case("no Host", line(b"POST /v2/ HTTP/1.1", b"Content-Length: 8\r\n", BODY), [400]),
    Case("two Hosts", line(b"POST /v2/ HTTP/1.1", LENGTH + b"Host: localhost\r\n", BODY), [400]),
    Case("two equal lengths", line(b"POST /v2/ HTTP/1.1", LENGTH + b"Content-Length: 8\r\n", BODY), [400]),
    Case("two different lengths", line(b"POST /v2/ HTTP/1.1", LENGTH + b"Content-Length: 9\r\n", BODY), [400]),
    Case("a list of lengths", line(b"POST /v2/ HTTP/1.1", b"Host: localhost\r\nContent-Length: 8, 8\r\n", BODY), [400]),
    Case("a signed length", line(b"POST /v2/ HTTP/1.1", b"Host: localhost\r\nContent-Length: +8\r\n", BODY), [400]),
    Case("an endless length", line(b"POST /v2/ HTTP/1.1", b"Host: localhost\r\nContent-Length: 99999999999999999999\r\n"), [400]),
    Case("length and chunked", chunked(b"0\r\n\r\n", b"Content-Length: 8\r\n"), [400]),
    Case("chunked and length", line(b"POST /v2/ HTTP/1.1", LENGTH + b"Transfer-Encoding: chunked\r\n", BODY), [400]),
    Case("chunked twice", chunked(b"0\r\n\r\n", b"Transfer-Encoding: chunked\r\n"), [400]),
    Case("gzip, chunked as transfer", chunked(b"0\r\n\r\n").replace(b"chunked", b"gzip, chunked"), [400]),
    Case("identity as transfer", chunked(b"0\r\n\r\n").replace(b"chunked", b"identity"), [400]),
    Case("chunked, identity as transfer", chunked(b"0\r\n\r\n").replace(b"chunked", b"chunked, identity"), [400]),
    Case("chunked in quotes", chunked(b"0\r\n\r\n").replace(b"chunked", b'"chunked"'), [400]),
    Case("chunked with a parameter", chunked(b"0\r\n\r\n").replace(b"chunked", b"chunked;q=1"), [400]),
    Case("no transfer coding named", chunked(b"0\r\n\r\n").replace(b" chunked", b""), [400]),
    Case("a chunk size with a sign", chunked(b"+8\r\n" + BODY + b"\r\n0\r\n\r\n"), [400]),
    Case("a chunk size with a space before it", chunked(b" 8\r\n" + BODY + b"\r\n0\r\n\r\n"), [400]),
    Case("a chunk size in the notation of C", chunked(b"0x8\r\n" + BODY + b"\r\n0\r\n\r\n"), [400]),
    Case("an empty chunk size", chunked(b"\r\n" + BODY + b"\r\n0\r\n\r\n"), [400]),
    Case("bare LF behind a chunk size", chunked(b"8\n" + BODY + b"\r\n0\r\n\r\n"), [400]),
    Case("bare LF behind a chunk", chunked(b"8\r\n" + BODY + b"\n0\r\n\r\n"), [400]),
    Case("bare LF at the end of a chunked body", chunked(b"8\r\n" + BODY + b"\r\n0\n\n"), [400]),
    Case("bare LF in a chunk extension", chunked(b"8;a\n" + BODY + b"\r\n0\r\n\r\n"), [400]),
    Case("bare CR in a chunk extension", chunked(b"8;a\rb\r\n" + BODY + b"\r\n0\r\n\r\n"), [400]),
    Case("bare LF in the trailers", chunked(b"8\r\n" + BODY + b"\r\n0\r\nX: y\n\r\n"), [400]),
    Case("a folded trailer", chunked(b"8\r\n" + BODY + b"\r\n0\r\nX: y\r\n z\r\n\r\n"), [400]),
    Case("a transfer coding among the trailers", chunked(b"8\r\n" + BODY + b"\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"), [400]),
    Case("another transfer coding", chunked(b"").replace(b"chunked", b"gzip"), [400]),
    Case("chunked from HTTP/1.0", chunked(b"8\r\n" + BODY + b"\r\n0\r\n\r\n", version=b"1.0"), [400]),
    Case("a folded header", line(b"POST /v2/ HTTP/1.1", b"Host: localhost\r\n folded\r\n"), [400]),
    Case("bare LF", post().replace(b"\r\n", b"\n"), [400]),
    Case("one bare LF", post().replace(b"localhost\r\n", b"localhost\n"), [400]),
    Case("a bare CR", post().replace(b"localhost\r\n", b"localhost\rX: y\r\n"), [400]),
    Case("a space before the colon", post().replace(b"Host:", b"Host :"), [400]),
    Case("a header without a name", post(headers=b": x\r\n"), [400]),
    Case("a header without a colon", post(headers=b"X\r\n"), [400]),
    Case("NUL in a header", post(headers=b"X: a\x00b\r\n"), [400]),
    Case("a chunk that ends wrongly", chunked(b"8\r\n" + BODY + b"XX0\r\n\r\n"), [400]),
    Case("a chunk size that is none", chunked(b"zz\r\n"), [400]),
    Case("an endless chunk size", chunked(b"fffffffffffffffff\r\n"), [400]),
    Case("a length among the trailers", chunked(b"8\r\n" + BODY + b"\r\n0\r\nContent-Length: 1\r\n\r\n"), [400]),
    Case("a fragment", line(b"POST /v2/#x HTTP/1.1", LENGTH, BODY), [400]),
    Case("another scheme", line(b"POST ftp://localhost/v2/ HTTP/1.1", LENGTH, BODY), [400]),
    Case("user information in the target", line(b"POST http://a@localhost/v2/ HTTP/1.1", LENGTH, BODY), [400]),
    Case("a path that is not UTF-8", line(b"POST /v2/%ff HTTP/1.1", LENGTH, BODY), [400]),
    Case("the token twice", post(headers=b"X-Encharge-Token: a\r\nX-Encharge-Token: b\r\n"), [400]),
    Case("a head that is too large", post(headers=b"X: %s\r\n" % (b"x" * 33_000)), [431]),
    Case("a head of many headers", post(headers=b"X-Y: z\r\n" * 4_200), [431]),
    Case("a target that is too large", line(b"POST /v2/?%s HTTP/1.1" % (b"x" * 33_000), LENGTH, BODY), [431]),
    Case("too large a body, from its length", post(b"x" * 1_001), [413]),
    Case("too large a body, before any of it", post(b"x" * 1_001)[:-1_001], [413]),
    Case("too large a body, chunked", chunked(b"3e9\r\n%s\r\n0\r\n\r\n" % (b"x" * 1_001)), [413]),
    Case("a bomb", packed(b"gzip", gzip.compress(bytes(1_000_000))), [413]),
    Case("a bomb in deflate", packed(b"deflate", zlib.compress(bytes(1_000_000))), [413]),
    Case("broken gzip", packed(b"gzip", b"nonsense"), [400]),
    Case("truncated gzip", packed(b"gzip", gzip.compress(BODY)[:-4]), [400]),
    Case("garbage after gzip", packed(b"gzip", gzip.compress(BODY) + b"garbage"), [400]),
    Case("garbage after deflate", packed(b"deflate", zlib.compress(BODY) + b"garbage"), [400]),
    Case("empty gzip", packed(b"gzip", b""), [400]),
    Case("long chunk extensions", chunked(b"1;" + b"x" * 70_000 + b"\r\n"), [400]),
    Case("endless chunk extensions", chunked(b"1;%s\r\n{\r\n" % (b"x" * 98) * 900), [400]),
    Case("long trailers", chunked(b"8\r\n" + BODY + b"\r\n0\r\nX: " + b"x" * 70_000), [400]),
    Case("another expectation", post(headers=b"Expect: miracles\r\n"), [417]),
    Case("another expectation of a GET with a body", line(b"GET / HTTP/1.1", LENGTH + b"Expect: miracles\r\n"), [417]),
    Case("Expect of a GET with a large body", line(b"GET / HTTP/1.1", b"Host: localhost\r\nContent-Length: 2000000\r\nExpect: 100-continue\r\n"), [413]),
    Case("empty blocks of deflate without end", chunked(b"%x\r\n%s\r\n" % (1_005, b"\x00\x00\x00\xff\xff" * 201), b"Content-Encoding: deflate\r\n"), [413]),
    Case("empty members of gzip without end", chunked(b"%x\r\n%s\r\n" % (20 * 51, gzip.compress(b"") * 51), b"Content-Encoding: gzip\r\n"), [413]),
    Case("Expect for an unknown path", post(headers=b"Expect: 100-continue\r\n").replace(b"/v2/", b"/nope"), [404]),
    Case("a large unwanted body", line(b"POST /nope HTTP/1.1", b"Host: localhost\r\nContent-Length: 2000000\r\n", b"x" * 1_100_000), [404]),
]  # fmt: skip

CASES = [*ACCEPTED, *REFUSED, *(case._replace(closes=True) for case in CLOSED)]
SHORT = [case for case in CASES if len(case.request) < 5_000]
LONG = [case for case in CASES if len(case.request) >= 5_000]
LIMITS = {"max_body": 1_000}


async def check(setup: Setup, case: Case, pieces: Sequence[bytes]) -> None:
    """The statuses in order, the events submitted, and whether the connection lives on."""
    async with await setup.client() as client:
        await client.say(*pieces)
        for at, status in enumerate(case.statuses):
            bodiless = case.bodiless and at == len(case.statuses) - 1
            answer = await client.hear(bodiless=bodiless)
            assert answer.status == status, answer
            if status >= 400 and not bodiless:
                assert "error" in answer.json
        if case.closes:
            assert answer.headers["connection"] == "close"
            assert await client.rest() == b""
        else:
            assert (await client.ask(post(b'{"ok":"after"}'))).status == 200
            setup.intake.submitted.pop()
    assert setup.intake.events == list(case.events)
    setup.intake.submitted.clear()


def named(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", CASES, ids=named)
async def test_a_request_in_one_write(door: Open, case: Case) -> None:
    setup = await door(**LIMITS)
    await check(setup, case, [case.request])


@pytest.mark.parametrize("case", SHORT, ids=named)
async def test_a_request_byte_by_byte(door: Open, case: Case) -> None:
    setup = await door(**LIMITS)
    await check(setup, case, list(bytewise(case.request)))


@pytest.mark.parametrize("case", LONG, ids=named)
def test_a_long_request_has_the_same_fate_wherever_it_is_cut(case: Case) -> None:
    """Byte by byte its first and last part, too, and once in slices of a prime size; without sockets."""
    request, chance = case.request, random.Random(case.name)  # noqa: S311 - the same cuts each time
    everywhere = range(1, min(len(request), 100_000))
    cuttings: list[Sequence[int]] = [
        everywhere,
        range(1, 400),
        range(max(1, len(request) - 400), len(request)),
        range(997, len(request), 997),
    ]
    cuttings += [[chance.randrange(1, len(request)) for _ in range(count)] for count in (1, 1, 2, 3, 5, 8, 13, 21)]
    for cuts in cuttings:
        edges = sorted({0, *cuts, *range(0, len(request), 60_000), len(request)})
        answers, events = asyncio.run(converse([request[a:b] for a, b in pairwise(edges)], **LIMITS))
        assert (answers, events) == (list(case.statuses), list(case.events)), edges[:20]


@pytest.mark.parametrize("case", CASES, ids=named)
async def test_a_request_after_another_one_in_the_same_write(door: Open, case: Case) -> None:
    setup = await door(**LIMITS)
    first = case._replace(statuses=[200, *case.statuses], events=[b'{"ok":0}', *case.events])
    await check(setup, first, [post(b'{"ok":0}') + case.request])


@pytest.mark.parametrize("case", CASES, ids=named)
async def test_a_request_that_was_made_before_has_the_same_fate(door: Open, case: Case) -> None:
    setup = await door(**LIMITS)
    await check(setup, case, [case.request])
    await check(setup, case, [case.request])


@pytest.mark.parametrize("case", CASES, ids=named)
async def test_a_request_of_a_client_that_then_shuts_down_its_sending_side(door: Open, case: Case) -> None:
    setup = await door(**LIMITS)
    async with await setup.client() as client:
        await client.say(case.request)
        client.shut()
        for at, status in enumerate(case.statuses):
            assert (await client.hear(bodiless=case.bodiless and at == len(case.statuses) - 1)).status == status
        assert await client.rest() in (b"", b"(reset)")
    assert setup.intake.events == list(case.events)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_many_requests_split_anywhere_have_the_same_answers(data: st.DataObject) -> None:
    cases = data.draw(st.lists(st.sampled_from([case for case in ACCEPTED + REFUSED if not case.closes]), max_size=6))
    stream = b"".join(case.request for case in cases)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) if a < b]
    statuses, events = asyncio.run(converse(pieces, max_body=1_000))
    assert statuses == [status for case in cases for status in case.statuses]
    assert events == [event for case in cases for event in case.events]


async def test_a_known_head_with_another_length_is_the_same_request_with_another_body(door: Open) -> None:
    setup = await door(**LIMITS)
    bodies = [b'{"ok":%d}' % (10**power) for power in range(0, 300, 30)]
    async with await setup.client() as client:
        for body in bodies:
            assert (await client.ask(post(body))).status == 200
        assert setup.intake.events == bodies
        for length in (b"1001", b"99999999999", b"9" * 5000):
            async with await setup.client() as other:
                assert (await other.ask(post().replace(b"Length: 8", b"Length: " + length))).status in (400, 413)
        for length in (b"", b"+8", b"8 8", b"8,8", b"0x8", b"-1"):
            async with await setup.client() as other:
                assert (await other.ask(post().replace(b"Length: 8", b"Length: " + length))).status == 400
        assert setup.intake.events == bodies


async def test_a_header_that_looks_like_a_length_is_none(door: Open) -> None:
    setup = await door(**LIMITS)
    async with await setup.client() as client:
        for fake in (b"3", b"300"):
            headers = b"X-Content-Length: %s\r\nX: Content-Length: %s\r\n" % (fake, fake)
            assert (await client.ask(post(headers=headers))).status == 200
    assert setup.intake.events == [BODY, BODY]


async def test_a_head_with_a_write_key_is_not_remembered(door: Open) -> None:
    setup = await door(**LIMITS)
    async with await setup.client() as client:
        assert (await client.ask(post(headers=b"X-Encharge-Token: k1\r\n"))).status == 200
        setup.router.encharge.cacheable = setup.router.telemetrydeck.cacheable = False
        for path in (b"/v1/secret", b"/v2/namespace/x"):
            await client.ask(post().replace(b"/v2/", path))
    assert b"k1" not in b"".join(setup.listener.familiar._heads)
    assert not setup.listener.familiar._heads
    assert all(b"namespace" not in target for target, _ in setup.door.rules._routes)

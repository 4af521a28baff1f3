"""Both ways to read datagrams bring the same: every one whole, in order, and what is too large told by its size."""

import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forwarder.sources import datagrams
from forwarder.sources.datagrams import LARGEST, RUN, SAMPLE, OneByOne, Reader, Runs, TooLarge
from tests.support.send_buffer import widen

LINUX = sys.platform == "linux"
MAX_UDP = 65_507

Pair = tuple[socket.socket, socket.socket]


def runs() -> Reader:
    made = Runs.made()
    assert made is not None
    return made


READERS = [OneByOne, pytest.param(runs, marks=pytest.mark.skipif(not LINUX, reason="recvmmsg is Linux's"))]


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> Reader:
    make: Callable[[], Reader] = request.param
    return make()


@pytest.fixture
def udp() -> Iterator[Pair]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taker,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        taker.bind(("127.0.0.1", 0))
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        taker.settimeout(0)
        sender.connect(taker.getsockname())
        yield taker, sender


@pytest.fixture
def unix() -> Iterator[Pair]:
    taker, sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with taker, sender:
        taker.settimeout(0)
        widen(sender, 8 * LARGEST)
        yield taker, sender


def test_every_datagram_comes_whole_and_in_order(reader: Reader, udp: Pair) -> None:
    taker, sender = udp
    sent = [bytes([size % 251]) * size for size in (330, 0, 1, 4096, MAX_UDP, 4097, 2, 30_000)]
    for each in sent:
        sender.send(each)
    read = reader.read(taker)
    assert read.datagrams == sent
    assert (read.count, read.too_large, read.trouble) == (len(sent), [], None)


def test_a_short_datagram_has_nothing_of_the_long_one_before_it(reader: Reader, udp: Pair) -> None:
    taker, sender = udp
    sender.send(b"x" * 9000)
    reader.read(taker)
    sender.send(b"y")
    assert reader.read(taker).datagrams == [b"y"]


def test_what_is_too_large_is_told_by_its_size_and_the_rest_is_taken(reader: Reader, unix: Pair) -> None:
    taker, sender = unix
    for size in (5, LARGEST, LARGEST + 1, 7):
        sender.send(b"x" * size)
    read = reader.read(taker)
    assert [*map(len, read.datagrams)] == [5, LARGEST, 7]
    assert read.too_large == [TooLarge(LARGEST + 1, b"x" * SAMPLE)]
    assert read.count == 4


def test_a_reading_is_a_run_at_most(reader: Reader, udp: Pair) -> None:
    taker, sender = udp
    sent = [b"%d" % number for number in range(RUN + 1)]
    for each in sent:
        sender.send(each)
    assert reader.read(taker).datagrams == sent[:RUN]
    assert reader.read(taker).datagrams == sent[RUN:]


def test_nothing_to_read_is_no_trouble_and_a_closed_socket_is(reader: Reader, udp: Pair) -> None:
    taker, _ = udp
    assert reader.read(taker).trouble is None
    taker.close()
    read = reader.read(taker)
    assert (read.count, read.trouble) == (0, "Bad file descriptor")


@pytest.mark.skipif(not LINUX, reason="recvmmsg is Linux's")
def test_memory_that_large_datagrams_took_is_given_back(udp: Pair) -> None:
    taker, sender = udp
    reader = runs()
    for before in range(0, 120, 2):
        for each in [b"x"] * before + [b"x" * 60_000]:
            sender.send(each)
        assert reader.read(taker).count == before + 1
    assert _resident() <= (datagrams.RUN * 4096 + 1024 * 1024) // 1024


def test_the_best_reader_of_the_system_is_chosen() -> None:
    assert isinstance(datagrams.reader(), Runs if LINUX else OneByOne)


def _resident() -> int:
    """Return how many KiB are real of the mappings made for runs (neighbours may be shown as one)."""
    place = RUN * LARGEST // 1024
    maps = Path("/proc/self/smaps").read_text()
    found = re.findall(r"^Size: +(\d+) kB\n(?:.*\n){2}Rss: +(\d+) kB", maps, re.MULTILINE)
    real = [int(rss) for size, rss in found if int(size) >= place and int(size) % place == 0]
    assert real
    return max(real)


@pytest.mark.skipif(not LINUX, reason="recvmmsg is Linux's")
def test_where_address_space_is_short_datagrams_are_read_one_by_one() -> None:
    program = """
import resource
from forwarder.sources import datagrams
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 32 * 1024 * 1024,) * 2)
print(type(datagrams.reader()).__name__)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["OneByOne"]

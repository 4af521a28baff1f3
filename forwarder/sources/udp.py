"""The datagram door: UDP and unix datagram sockets. No answers, so everything is counted.

Hot path (`make bench`): a reader callback that empties the socket in runs, and one submit a batch key and run. The runs
of one turn of the loop go into one commit.
"""

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Sequence

import structlog

from forwarder.config.model import Listen
from forwarder.core.seams import Busy, Clock, Durability, Failed, Group, Intake, ListenerStatus, Stored
from forwarder.metrics import Metrics
from forwarder.sources import datagrams
from forwarder.sources.datagrams import RUN, Read, TooLarge
from forwarder.sources.handing_in import hand_in
from forwarder.sources.http import Samples
from forwarder.sources.stamp import Stamp
from forwarder.vendors.base import BadRequest, Checked, Refusal, Router

RUNS = 4
"""Runs taken in one turn of the loop if the socket has so much: they share one commit."""
TURN = 256 * 1024
"""Bytes after which no further run is taken in the same turn, so that large datagrams do not stall the loop."""
APART = 50
"""Runs that are checked one datagram at a time after one that could not be checked at once."""
TOGETHER = 1024 * 1024
"""Bytes of a run that is checked at once; more would stall the loop, and be copied as often as it is cut and joined."""
POLL_S = 1.0

_SO_RCVBUFFORCE = 33
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("9I")
_MEMINFO_DROPS = 8
_LINUX = sys.platform == "linux"
_log = structlog.get_logger()


class UdpDoor:
    """What the datagram listeners share. `configure` replaces router and settings while they run."""

    def __init__(
        self,
        *,
        router: Router,
        intake: Intake,
        settings: Listen,
        durability: Durability,
        metrics: Metrics,
        clock: Clock,
        samples: Samples,
    ) -> None:
        self.intake = intake
        self.metrics = metrics
        self.clock = clock
        self.samples = samples
        self.stamp = Stamp(clock)
        self.reader = datagrams.reader()
        self.held = 0
        """Bytes submitted and not committed, all listeners together; at `max_inflight` datagrams are shed."""
        self.configure(router=router, settings=settings, durability=durability)

    def configure(self, *, router: Router, settings: Listen, durability: Durability) -> None:
        """Put new rules into force (reload)."""
        self.route = router.datagrams()
        self.settings = settings
        self.durability = durability

    @property
    def crowded(self) -> bool:
        """Return whether half of what may be held is held: the kernel then keeps the rest a while, nothing is shed."""
        return self.held > self.settings.max_inflight // 2

    def serve(self, sock: socket.socket, *, label: str) -> "DatagramListener":
        """Read from a bound datagram socket, which the listener then owns."""
        return DatagramListener(self, sock, label=label)


class DatagramListener:
    """One bound datagram socket."""

    def __init__(self, door: UdpDoor, sock: socket.socket, *, label: str) -> None:
        self.label = label
        self._door = door
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._received = door.metrics.received.at(label)
        self._drops = door.metrics.udp_kernel_drops.at(label)
        self._dropped_before = 0
        self._poll: asyncio.TimerHandle | None = None
        self._open = True
        self._uncommitted = 0
        self._apart = 0
        self._settled = asyncio.Event()
        self._settled.set()
        sock.settimeout(0)
        self.ask(door.settings.udp_receive_buffer)
        self._kind = "unix_datagram" if sock.family == socket.AF_UNIX else "udp"
        self._dropped_before = kernel_drops(sock)
        self._loop.add_reader(sock, self._readable)

    def status(self) -> ListenerStatus:
        """Return what `status` shows; reads the kernel's count."""
        self._count_drops()
        asked = self._door.settings.udp_receive_buffer
        note = ""
        if self._granted < asked:
            note = f"receive buffer {self._granted} of {asked} bytes granted: raise net.core.rmem_max"
        return ListenerStatus(
            label=self.label,
            kind=self._kind,
            accepting=self._open,
            inflight_bytes=self._door.held,
            receive_buffer=self._granted,
            kernel_drops=int(self._drops.value),
            note=note,
        )

    def ask(self, size: int) -> None:
        """Ask the kernel for a receive buffer of `size` bytes (also at reload); `status` says what was granted."""
        self._granted = ask_buffer(self._sock, size)

    @property
    def polling(self) -> bool:
        """Return whether the kernel's count will be read; not while nothing arrives."""
        return self._poll is not None

    def stop_accepting(self) -> None:
        """Take what the kernel has already, then close the socket."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._sock)
        while self._take().count == RUN:
            pass
        self._count_drops()
        if self._poll is not None:
            self._poll.cancel()
        self._sock.close()

    async def drain(self, deadline: float) -> None:
        """Stop, and wait until what was taken is committed, until `deadline` (monotonic seconds) at most."""
        self.stop_accepting()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, deadline - self._door.clock.monotonic())):
                await self._settled.wait()

    def _readable(self) -> None:
        size = 0
        for _ in range(RUNS):
            read = self._take()
            if read.count < RUN or self._door.crowded or (size := size + read.size) >= TURN:
                break
        if self._poll is None:
            self._poll = self._loop.call_later(POLL_S, self._tick)

    def _tick(self) -> None:
        self._poll = None
        self._count_drops()

    def _take(self) -> Read:
        """Read up to RUN datagrams, check each, submit them together by batch key; return what was read."""
        read = self._door.reader.read(self._sock)
        if read.trouble is not None:
            _log.warning("datagram_read_failed", listener=self.label, error=read.trouble)
        for each in read.too_large:
            self._too_large(each)
        for group in self._groups(read):
            self._submit(group)
        return read

    def _groups(self, read: Read) -> Iterable[Group]:
        """Check all datagrams at once if each is one good event, else one by one (and for a while no more at once)."""
        found = read.datagrams
        stamp = self._door.stamp.now()
        if self._apart:
            self._apart -= 1
        elif len(found) > 1 and read.size <= TOGETHER:
            checked = self._door.route.check_each(found, received_at=stamp)
            if checked is not None:
                self._received.value += checked.accepted
                self._remark(checked)
                return checked.groups
            self._apart = APART
        groups: dict[tuple[str, bytes], Group] = {}
        for datagram in found:
            self._check(datagram, stamp, groups)
        return groups.values()

    def _check(self, datagram: bytes, stamp: bytes, groups: dict[tuple[str, bytes], Group]) -> None:
        checked = self._door.route.check(datagram, received_at=stamp)
        if isinstance(checked, BadRequest):
            self._refuse([Refusal(0, checked.error, checked.reason, datagram[: datagrams.SAMPLE])])
            return
        self._received.value += checked.accepted
        if checked.refused or checked.warnings:
            self._remark(checked)
        for group in checked.groups:
            known = groups.setdefault((group.destination, group.batch_key), group)
            if known is not group:
                known.events += group.events
                known.size += group.size
                if known.traits is not None and group.traits is not None:
                    known.traits += group.traits

    def _submit(self, group: Group) -> None:
        """Submit one destination's events by themselves: a full spool must not shed the other one's."""
        door, events, size = self._door, len(group.events), group.size
        if door.held + size > door.settings.max_inflight:
            self._shed("inflight", events)
            return
        door.held += size
        self._uncommitted += 1
        self._settled.clear()
        busy = hand_in(door.intake, [group], door.durability, self._done(events, size))
        if isinstance(busy, Busy):
            self._release(size)
            self._shed(busy.limit, events)

    def _done(self, events: int, size: int) -> Callable[[Stored | Failed], None]:
        def done(result: Stored | Failed) -> None:
            self._release(size)
            if isinstance(result, Failed):
                self._shed("commit_failed", events)

        return done

    def _release(self, size: int) -> None:
        self._door.held -= size
        self._uncommitted -= 1
        if not self._uncommitted:
            self._settled.set()

    def _too_large(self, found: TooLarge) -> None:
        error = f"a datagram of {found.size} bytes is larger than {datagrams.LARGEST}: send it over HTTP"
        self._refuse([Refusal(0, error, "too_large", found.sample)])

    def _remark(self, checked: Checked) -> None:
        for rule, times in checked.warnings.items():
            self._door.metrics.warnings.at(rule).value += times
        if checked.refused:
            self._refuse(checked.refused)

    def _refuse(self, refused: Sequence[Refusal]) -> None:
        self._received.value += len(refused)
        for refusal in refused:
            self._door.metrics.refused.at(self.label, refusal.reason).value += 1
        self._door.samples(self.label, refused)

    def _shed(self, reason: str, events: int) -> None:
        self._door.metrics.shed.at(self.label, reason).value += events

    def _count_drops(self) -> None:
        if self._sock.fileno() >= 0:
            drops = kernel_drops(self._sock)
            self._drops.value += (drops - self._dropped_before) & 0xFFFFFFFF
            self._dropped_before = drops


def ask_buffer(sock: socket.socket, size: int) -> int:
    """Ask for a receive buffer and return what was granted; root may exceed net.core.rmem_max.

    Linux doubles the number for its own bookkeeping, and says so when asked: the answer here is without it.
    """
    granted = 0
    for option in (_SO_RCVBUFFORCE, socket.SO_RCVBUF) if _LINUX else (socket.SO_RCVBUF,):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, option, size)
        granted = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // (2 if _LINUX else 1)
        if granted >= size:
            break
    return granted


def kernel_drops(sock: socket.socket) -> int:
    """Return how many datagrams the kernel has dropped on this socket (modulo 2³²); 0 where it does not tell."""
    if not _LINUX:
        return 0
    with contextlib.suppress(OSError):
        data = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        if len(data) == _MEMINFO.size:
            return int(_MEMINFO.unpack(data)[_MEMINFO_DROPS])
    return 0

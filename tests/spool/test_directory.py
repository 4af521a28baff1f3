import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from forwarder.errors import SpoolLocked, SpoolNotWritable
from forwarder.spool.directory import SpoolDirectory
from tests.support.hand_clock import HandClock

MIB = 1024 * 1024


def directory(root: Path, *, max_total: int = 2048 * MIB, min_free: int = 0) -> SpoolDirectory:
    clock = HandClock(1_780_000_000.0)
    return SpoolDirectory(root, max_total=max_total, min_free=min_free, version="1.2.3", clock=clock)


@contextmanager
def opened(root: Path, *, max_total: int = 2048 * MIB, min_free: int = 0) -> Iterator[SpoolDirectory]:
    held = directory(root, max_total=max_total, min_free=min_free)
    held.open()
    try:
        yield held
    finally:
        held.close()


def test_everything_it_creates_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with opened(tmp_path / "deep" / "root") as held:
            root = held.root
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [root, *root.iterdir()]}
    finally:
        os.umask(before)
    assert modes == {"root": 0o700, "lock": 0o600, "spool": 0o700, "dead": 0o700, "quarantine": 0o700, "refused": 0o700}


def test_parts_that_are_open_to_others_are_narrowed_and_the_root_is_the_operators(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    tmp_path.joinpath("spool").mkdir(mode=0o755)
    with opened(tmp_path):
        assert stat.S_IMODE(tmp_path.joinpath("spool").stat().st_mode) == 0o700
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_second_process_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.spool.test_directory import directory\n"
        "directory(Path(sys.argv[1])).open(); print('open', flush=True); sys.stdin.read()"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "open\n"
    with pytest.raises(SpoolLocked) as raised:
        directory(tmp_path).open()
    first.kill()
    first.communicate()
    assert raised.value.holder == f"pid {first.pid} (forwarder 1.2.3, since 2026-05-28T20:26:40.000Z)"
    assert raised.value.directory == str(tmp_path)
    with opened(tmp_path):  # the lock of a killed process is free, its file does not matter
        assert tmp_path.joinpath("lock").read_text().startswith(f"pid {os.getpid()} (")


def test_closing_lets_the_next_one_in(tmp_path: Path) -> None:
    held = directory(tmp_path)
    held.open()
    held.close()
    with opened(tmp_path):
        pass


def test_a_directory_that_cannot_be_written_is_named_with_the_setting(tmp_path: Path) -> None:
    tmp_path.joinpath("file").write_text("")
    with pytest.raises(SpoolNotWritable, match=r"file/below: Not a directory .*set spool\.directory"):
        directory(tmp_path / "file" / "below").open()


def test_a_read_only_file_system_is_not_writable() -> None:
    with pytest.raises(SpoolNotWritable, match="cannot write to the spool directory /proc/"):
        directory(Path("/proc/forwarder")).open()


async def test_usage_counts_every_file_and_follows_deletions(tmp_path: Path) -> None:
    with opened(tmp_path) as held:
        empty = held.usage()
        held.spool("a").mkdir()
        held.spool("a").joinpath("segment").write_bytes(b"x" * 300_000)
        held.dead("a").mkdir()
        held.dead("a").joinpath("1.ndjson").write_bytes(b"x" * 200_000)
        await held.measure()
        assert 500_000 <= held.usage() - empty <= 510_000
        held.spool("a").joinpath("segment").unlink()
        await held.measure()
        assert 200_000 <= held.usage() - empty <= 205_000


async def test_zero_written_space_counts_before_anything_is_stored_in_it(tmp_path: Path) -> None:
    with opened(tmp_path) as held:
        empty = held.usage()
        with held.root.joinpath("spool", "reserved").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, MIB)
            os.ftruncate(file.fileno(), MIB)
        await held.measure()
        assert held.usage() - empty >= MIB


class Stub:
    """A spool that has joined, reduced to its size."""

    def __init__(self, taken: int = 0, *, limit: int = 2048 * MIB, evictable: bool = False) -> None:
        self.taken = taken
        self.limit = limit
        self.evictable = evictable
        self.evicted = 0

    def evict(self, size: int) -> int:
        self.evicted += size
        self.taken -= size
        return size


def test_room_ends_at_max_total_without_waiting_for_a_measurement(tmp_path: Path) -> None:
    with opened(tmp_path, max_total=MIB) as held:
        spool = Stub()
        held.join("encharge", spool)
        assert held.room(900_000, "encharge") is None
        spool.taken = 900_000
        busy = held.room(900_000, "encharge")
        assert busy is not None
        assert (busy.destination, busy.limit) == ("encharge", "spool.max_total")
        assert f"spool.max_total allows {MIB}" in busy.message
        assert busy.retry_after_s > 0


async def test_asking_for_room_however_often_uses_none_up(tmp_path: Path) -> None:
    with opened(tmp_path, max_total=MIB) as held:
        held.join("encharge", Stub())
        for _ in range(100):
            assert held.room(900_000, "encharge") is None
        await held.measure()
        assert held.room(900_000, "encharge") is None


async def test_a_spool_that_has_joined_is_counted_once_and_as_it_says_itself(tmp_path: Path) -> None:
    with opened(tmp_path) as held:
        held.spool("a").mkdir()
        held.spool("a").joinpath("segment").write_bytes(b"x" * 300_000)
        await held.measure()
        before = held.usage()
        spool = Stub(300_000)
        held.join("a", spool)
        assert abs(held.usage() - before) < 8192
        await held.measure()
        assert abs(held.usage() - before) < 8192
        spool.taken = 500_000
        assert abs(held.usage() - before - 200_000) < 8192
        held.leave("a")
        assert abs(held.usage() - before - 200_000) < 8192


def test_what_spools_took_since_the_measurement_is_not_free_any_more(tmp_path: Path) -> None:
    with opened(tmp_path) as held:
        free = held.free()
        spool = Stub()
        held.join("a", spool)
        spool.taken = 10 * MIB
        assert held.free() == free - 10 * MIB


def test_a_backlog_refuses_nobody_else_before_max_total(tmp_path: Path) -> None:
    with opened(tmp_path, max_total=10 * MIB) as held:
        held.join("big", Stub(8 * MIB, limit=10 * MIB, evictable=True))
        held.join("small", Stub(0, limit=10 * MIB))
        assert held.room(MIB, "small") is None


def test_at_max_total_the_one_over_its_share_evicts_for_the_one_within_it(tmp_path: Path) -> None:
    with opened(tmp_path, max_total=10 * MIB) as held:
        big, small = Stub(9 * MIB, limit=10 * MIB, evictable=True), Stub(MIB // 2, limit=10 * MIB)
        held.join("big", big)
        held.join("small", small)
        assert held.room(MIB, "small") is None
        assert MIB // 2 <= big.evicted <= MIB
        assert small.evicted == 0


def test_at_max_total_the_one_over_its_share_makes_nobody_else_give_way(tmp_path: Path) -> None:
    with opened(tmp_path, max_total=10 * MIB) as held:
        small = Stub(2 * MIB, limit=10 * MIB, evictable=True)
        held.join("big", Stub(8 * MIB, limit=10 * MIB, evictable=True))
        held.join("small", small)
        busy = held.room(MIB, "big")
        assert busy is not None
        assert busy.limit == "spool.max_total"
        assert small.evicted == 0


def test_one_that_must_not_evict_leaves_the_others_their_share(tmp_path: Path) -> None:
    with opened(tmp_path, max_total=10 * MIB) as held:
        keeper, other = Stub(4 * MIB, limit=10 * MIB), Stub(0, limit=10 * MIB)
        held.join("keeper", keeper)
        held.join("other", other)
        assert held.room(MIB // 2, "keeper") is None, "within its share"
        keeper.taken = 5 * MIB
        assert held.room(MIB, "keeper") is not None, "its own senders are refused first"
        assert held.room(4 * MIB, "other") is None


def test_shares_do_not_matter_while_everybody_s_max_size_fits(tmp_path: Path) -> None:
    with opened(tmp_path, max_total=10 * MIB) as held:
        held.join("a", Stub(4 * MIB, limit=5 * MIB - 8192))
        held.join("b", Stub(0, limit=5 * MIB - 8192))
        assert held.room(MIB - 16384, "a") is None


def test_room_keeps_min_free_but_never_more_than_a_twentieth_of_the_volume(tmp_path: Path) -> None:
    volume = os.statvfs(tmp_path)
    size = volume.f_blocks * volume.f_frsize
    with opened(tmp_path, max_total=10 * size, min_free=10 * size) as held:
        assert held.min_free == int(size * 0.05)
        assert held.room(1) is None
        busy = held.room(held.free())
        assert busy is not None
        assert busy.limit == "spool.min_free"
    with opened(tmp_path, min_free=MIB) as held:
        assert held.min_free == MIB


async def test_a_directory_that_vanished_leaves_the_last_figures(tmp_path: Path) -> None:
    with opened(tmp_path / "root") as held:
        free = held.free()
        tmp_path.joinpath("root").rename(tmp_path / "moved")
        await held.measure()
        assert held.free() == free


def test_status_names_directory_and_limit(tmp_path: Path) -> None:
    with opened(tmp_path, max_total=5 * MIB) as held:
        status = held.status()
        assert (status.directory, status.limit_bytes) == (str(tmp_path), 5 * MIB)
        assert status.free_bytes > 0


def test_spools_without_a_destination_are_listed(tmp_path: Path) -> None:
    with opened(tmp_path) as held:
        for name in ("b", "a", "kept"):
            held.spool(name).mkdir()
        held.root.joinpath("spool", "stray-file").write_text("")
        assert held.orphans(["kept"]) == ["a", "b"]
    assert directory(tmp_path / "absent").orphans([]) == []


async def test_quarantined_files_go_when_they_are_too_old_and_not_before(tmp_path: Path) -> None:
    clock = HandClock(time.time())
    held = SpoolDirectory(
        tmp_path, max_total=MIB, min_free=0, version="1", clock=clock, quarantine_max_age=30 * 86400.0
    )
    held.open()
    damaged = held.quarantine / "td" / "000000000001.segment"
    damaged.parent.mkdir()
    damaged.write_bytes(b"damaged")
    clock.advance(29 * 86400.0)
    await held.measure()
    assert damaged.exists()
    clock.advance(2 * 86400.0)
    await held.measure()
    assert not damaged.exists()
    held.close()


async def test_a_wall_clock_that_jumps_ahead_deletes_nothing_from_quarantine(tmp_path: Path) -> None:
    clock = HandClock(time.time())
    held = SpoolDirectory(tmp_path, max_total=MIB, min_free=0, version="1", clock=clock)
    held.open()
    held.quarantine.joinpath("checkpoint.1").write_bytes(b"damaged")
    clock.jump(365 * 86400.0)
    await held.measure()
    assert held.quarantine.joinpath("checkpoint.1").exists()
    held.close()

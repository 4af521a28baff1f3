import os
import stat
import subprocess
import sys
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


def test_room_ends_at_max_total_without_waiting_for_a_measurement(tmp_path: Path) -> None:
    with opened(tmp_path, max_total=MIB) as held:
        assert held.room(900_000, "encharge") is None
        busy = held.room(900_000, "encharge")
        assert busy is not None
        assert (busy.destination, busy.limit) == ("encharge", "spool.max_total")
        assert f"spool.max_total allows {MIB}" in busy.message
        assert busy.retry_after_s > 0


async def test_room_comes_back_when_what_was_granted_is_not_on_disk_after_all(tmp_path: Path) -> None:
    with opened(tmp_path, max_total=MIB) as held:
        assert held.room(900_000) is None
        await held.measure()
        assert held.room(900_000) is None


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

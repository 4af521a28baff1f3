"""The contract of `Fs`: the fault file system behaves as the kernel's."""

from pathlib import Path

import pytest

from forwarder.spool.fs import Fs, RealFs
from tests.support.fault_fs import FaultFs


@pytest.fixture(params=["real", "fake"])
def fs(request: pytest.FixtureRequest) -> Fs:
    return RealFs() if request.param == "real" else FaultFs()


def content(fs: Fs, path: Path) -> bytes:
    descriptor = fs.open(path)
    try:
        return fs.read(descriptor, 0, 1 << 20)
    finally:
        fs.close(descriptor)


@pytest.mark.parametrize("sync", [True, False])
def test_all_buffers_are_written_at_the_offset(fs: Fs, tmp_path: Path, *, sync: bool) -> None:
    descriptor = fs.create(tmp_path / "f")
    fs.write(descriptor, [b"ab", memoryview(b"cd")], 3, sync=sync)
    fs.write(descriptor, [b"x"] * 2000, 7, sync=sync)
    fs.sync(descriptor)
    fs.close(descriptor)
    assert content(fs, tmp_path / "f") == b"\0\0\0abcd" + b"x" * 2000
    assert fs.size(tmp_path / "f") == 2007


def test_a_file_that_exists_is_not_created_again(fs: Fs, tmp_path: Path) -> None:
    fs.close(fs.create(tmp_path / "f"))
    with pytest.raises(FileExistsError):
        fs.create(tmp_path / "f")


def test_reading_behind_the_end_gives_what_there_is(fs: Fs, tmp_path: Path) -> None:
    descriptor = fs.create(tmp_path / "f")
    fs.write(descriptor, [b"abc"], 0, sync=False)
    assert fs.read(descriptor, 1, 10) == b"bc"
    assert fs.read(descriptor, 10, 10) == b""
    fs.close(descriptor)


def test_appending_goes_to_the_end(fs: Fs, tmp_path: Path) -> None:
    descriptor = fs.append_to(tmp_path / "f")
    assert fs.append(descriptor, b"ab") == 2
    assert fs.append(descriptor, b"c") == 1
    fs.close(descriptor)
    assert content(fs, tmp_path / "f") == b"abc"


def test_replacing_puts_the_new_bytes_in_place_and_leaves_no_other_file(fs: Fs, tmp_path: Path) -> None:
    for data in (b"old and long", b"new"):
        fs.replace(tmp_path / "f", data)
    assert content(fs, tmp_path / "f") == b"new"
    assert fs.names(tmp_path) == ["f"]


def test_a_file_can_be_cut_moved_and_removed(fs: Fs, tmp_path: Path) -> None:
    fs.replace(tmp_path / "f", b"abcdef")
    fs.truncate(tmp_path / "f", 2)
    fs.make_directory(tmp_path / "d")
    fs.move(tmp_path / "f", tmp_path / "d" / "g")
    assert content(fs, tmp_path / "d" / "g") == b"ab"
    fs.remove(tmp_path / "d" / "g")
    fs.remove(tmp_path / "d" / "g")
    assert fs.names(tmp_path / "d") == []


def test_a_missing_file_is_said_to_be_missing(fs: Fs, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fs.open(tmp_path / "f")
    with pytest.raises(FileNotFoundError):
        fs.size(tmp_path / "f")


def test_free_space_and_salts_are_given(fs: Fs, tmp_path: Path) -> None:
    assert fs.free(tmp_path) > 0
    assert 0 <= fs.salt() < 1 << 32


def test_a_power_cut_loses_what_was_not_synced_and_keeps_what_was() -> None:
    fs = FaultFs(1)
    directory = Path("/d")
    fs.make_directory(directory)
    kept = fs.create(directory / "kept")
    fs.write(kept, [b"k" * 512], 0, sync=True)
    fs.sync_directory(directory)
    losses = 0
    for _ in range(20):
        fs.write(kept, [b"u" * 5120], 512, sync=False)
        fs.create(directory / "new")
        fs = fs.power_cut()
        data = content(fs, directory / "kept")
        assert data[:512] == b"k" * 512
        losses += data[512:].count(b"u" * 512) < 10 or "new" not in fs.names(directory)
        fs.remove(directory / "new")
        fs.put(directory / "kept", b"k" * 512)
        kept = fs.open(directory / "kept")
    assert losses > 10


def test_a_failed_sync_loses_the_data_though_the_next_one_says_ok() -> None:
    fs = FaultFs()
    descriptor = fs.create(Path("/f"))
    fs.sync_directory(Path("/"))
    fs.write(descriptor, [b"lost"], 0, sync=False)
    fs.fail_once("sync", 5)
    with pytest.raises(OSError, match="error"):
        fs.sync(descriptor)
    fs.power_cut()
    assert bytes(fs.names_now[Path("/f")].durable) == b""


@pytest.mark.parametrize("seed", range(20))
def test_what_was_synced_over_an_unsynced_write_is_never_overwritten_by_it(seed: int) -> None:
    fs = FaultFs(seed)
    fs.make_directory(Path("/d"))
    descriptor = fs.create(Path("/d/file"))
    fs.sync_directory(Path("/d"))
    fs.write(descriptor, [b"old" * 1000], 0, sync=False)
    fs.write(descriptor, [b"new" * 300], 600, sync=True)
    assert fs.power_cut().files()["/d/file"][600:1500] == b"new" * 300

"""`forwarder spool`, `forwarder audit` and `forwarder erase` on the files of a spool."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result

from forwarder.cli import cli
from forwarder.config.model import DeadLetterLimits
from forwarder.core.seams import DeadLetter, Durability, Group, Outcome, Stored
from forwarder.metrics import Metrics
from forwarder.spool.dead_letters import DiskDeadLetters
from forwarder.spool.spool import DiskSpool, SpoolSettings
from tests.support.spools import NOTHING, SystemClock, lease_all

CONFIG = """
[spool]
directory = "{directory}"
min_free = "0B"

[destinations.td]
kind = "telemetrydeck"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "forwarder.toml"
    path.write_text(CONFIG.format(directory=tmp_path / "data"))
    return path


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def run(config: Path, *arguments: str, columns: int = 200) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--config", str(config)], env={"COLUMNS": str(columns)})


def spool(config: Path, name: str) -> DiskSpool:
    root = config.parent / "data"
    return DiskSpool(
        directory=root / "spool" / name,
        quarantine=root / "quarantine" / name,
        destination=name,
        settings=SpoolSettings(segment_size=16384),
        clock=SystemClock(),
        metrics=Metrics(),
    )


def signal(number: int, user: str = "u") -> bytes:
    return b'{"type":"t%d","clientUser":"%s","pad":"%s"}' % (number % 2, user.encode(), b"x" * 3000)


def work(config: Path, name: str, job: Callable[[DiskSpool], Awaitable[None]]) -> None:
    async def main() -> None:
        async with spool(config, name) as one:
            await job(one)

    asyncio.run(main())


async def append(one: DiskSpool, events: Sequence[bytes], key: bytes = b"v2/app") -> None:
    size = sum(map(len, events))
    assert one.reserve(size, len(events)) is None
    answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    one.append(Group(one.destination, key, list(events), size), Durability.FSYNC, answer.set_result)
    assert isinstance(await answer, Stored)


def filled(config: Path, name: str = "td", count: int = 20, user: str = "u") -> None:
    async def job(one: DiskSpool) -> None:
        for number in range(count):
            await append(one, [signal(number, user)], b"v2/app%d" % (number % 2))

    work(config, name, job)


def segments(config: Path, name: str = "td") -> list[Path]:
    return sorted((config.parent / "data" / "spool" / name).glob("*.segment"))


def test_ls_shows_segments_sequences_sizes_and_batch_keys(config: Path) -> None:
    filled(config)
    rows = [json.loads(line) for line in run(config, "spool", "ls", "--json").stdout.splitlines()]
    assert [row["number"] for row in rows] == list(range(1, len(segments(config)) + 1))
    assert sum(row["queued"] for row in rows) == 20
    assert rows[0]["first_sequence"] == 1
    assert rows[-1]["next_sequence"] == 21
    assert sum(sum(row["batch_keys"].values()) for row in rows) == 20
    assert set(rows[0]["batch_keys"]) == {"v2/app0", "v2/app1"}
    table = run(config, "spool", "ls", "td")
    assert table.exit_code == 0
    assert "v2/app0" in table.stdout


def test_verify_of_a_whole_spool_is_quiet_and_0(config: Path) -> None:
    filled(config)
    result = run(config, "spool", "verify")
    assert result.exit_code == 0
    assert "whole" in result.stdout


def test_verify_names_the_damaged_sequences_and_is_3(config: Path) -> None:
    filled(config)
    damaged = segments(config)[1]
    data = bytearray(damaged.read_bytes())
    data[1024 + 500] ^= 1
    damaged.write_bytes(data)
    result = run(config, "spool", "verify", "--json")
    assert result.exit_code == 3
    [problem] = json.loads(result.stdout)["problems"]
    assert problem.startswith("segment 000000000002: damaged at byte 1024: sequences 5 to 5, 1 of them not delivered")


def test_export_gives_every_queued_event_back_and_filters(config: Path) -> None:
    filled(config)
    lines = [json.loads(line) for line in run(config, "spool", "export", "td").stdout.splitlines()]
    assert [line["event"] for line in lines] == [json.loads(signal(number)) for number in range(20)]
    assert [line["sequence"] for line in lines] == list(range(1, 21))
    for options, expected in [
        (["--type", "t1"], 10),
        (["--batch-key", "v2/app0"], 10),
        (["--from", "5", "--to", "9"], 5),
        (["--where", "clientUser=u"], 20),
        (["--where", "clientUser=x"], 0),
        (["--since", "1h"], 20),
    ]:
        assert len(run(config, "spool", "export", "td", *options).stdout.splitlines()) == expected, options


def test_export_leaves_out_what_has_ended_unless_asked(config: Path) -> None:
    async def job(one: DiskSpool) -> None:
        await append(one, [signal(0), signal(1)])
        [span] = await one.lease(1 << 20, NOTHING)
        one.ack([span.split(1)[0]], Outcome.DELIVERED)

    work(config, "td", job)
    assert len(run(config, "spool", "export", "td").stdout.splitlines()) == 1
    states = [json.loads(line)["state"] for line in run(config, "spool", "export", "td", "--ended").stdout.splitlines()]
    assert states == ["ended", "queued"]


def test_reading_changes_no_byte(config: Path) -> None:
    filled(config)
    data = config.parent / "data"
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    for arguments in (["spool", "ls"], ["spool", "verify"], ["spool", "export", "td"], ["audit"]):
        assert run(config, *arguments).exit_code == 0
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


def test_p2_audit_adds_up(config: Path) -> None:
    filled(config)
    result = run(config, "audit")
    assert result.exit_code == 0, result.output
    assert "everything adds up" in result.stdout
    found = json.loads(run(config, "audit", "--json").stdout)
    assert (found["queued"], found["imbalance"], found["next_sequence"]) == (20, 0, 21)


def test_the_table_of_the_audit_cuts_no_name_and_no_number_on_a_narrow_terminal(config: Path) -> None:
    filled(config, "td")
    filled(config, "a-destination-with-quite-a-long-name-indeed")
    filled(config, "another-destination-with-quite-a-long-name")
    lines = run(config, "audit", columns=80).stdout.splitlines()
    assert lines[0].split() == [
        "a-destination-with-quite-a-long-name-indeed", "another-destination-with-quite-a-long-name", "td",
    ]  # fmt: skip
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:11]}
    assert list(rows) == [
        "accepted", "queued", "delivered", "died", "expired", "evicted", "unreadable", "erased", "skipped", "imbalance",
    ]  # fmt: skip
    assert rows["queued"] == ["20", "20", "20"]
    assert "…" not in "".join(lines)


@pytest.mark.parametrize("which", [0, 1, -1])
def test_p2_audit_names_a_segment_that_was_deleted_by_hand(config: Path, which: int) -> None:
    filled(config)
    gone = segments(config)[which]
    gone.unlink()
    result = run(config, "audit", "--json")
    assert result.exit_code == 3
    [discrepancy] = json.loads(result.stdout)["discrepancies"]
    assert discrepancy.startswith(f"segment {gone.stem}: unreadable: ")
    assert "sequences" in discrepancy


def test_p2_audit_names_dead_letters_that_were_deleted_by_hand(config: Path) -> None:
    bury(config)
    assert run(config, "audit").exit_code == 0
    [file] = (config.parent / "data" / "dead" / "td").glob("*.ndjson")
    file.unlink()
    result = run(config, "audit", "--json")
    assert result.exit_code == 3
    assert "1 dead letters are missing" in json.loads(result.stdout)["discrepancies"][0]


def bury(config: Path, user: str = "u") -> None:
    async def main() -> None:
        (config.parent / "data" / "dead").mkdir(parents=True, exist_ok=True)
        dead = config.parent / "data" / "dead" / "td"
        clock = SystemClock()
        async with spool(config, "td") as one, DiskDeadLetters(dead, "td", DeadLetterLimits(), clock) as letters:
            await append(one, [signal(0, user)])
            span = (await lease_all(one))[-1].singles()[-1]
            letter = DeadLetter(
                sequence=span.first, event=signal(0, user), batch_key=b"v2/app", reason="refused", status=400,
                answer="no", attempts=1, accepted_at=span.frame.accepted_at, died_at=span.frame.accepted_at,
            )  # fmt: skip
            await letters.add([letter])
            one.ack([span], Outcome.DIED)

    asyncio.run(main())


def test_adopt_renames_the_queue_when_the_new_name_never_held_anything(config: Path) -> None:
    filled(config, "old")
    result = run(config, "spool", "adopt", "old", "td")
    assert result.exit_code == 0, result.output
    assert "20 queued events and 0 dead letters" in result.stdout
    assert len(run(config, "spool", "export", "td").stdout.splitlines()) == 20
    assert not (config.parent / "data" / "spool" / "old").exists()
    assert run(config, "audit").exit_code == 0


def test_adopt_appends_to_a_queue_in_use_and_keeps_the_ages(config: Path) -> None:
    filled(config, "old", 20)
    filled(config, "td", 3)
    before = [json.loads(line) for line in run(config, "spool", "export", "old").stdout.splitlines()]
    result = run(config, "spool", "adopt", "old", "td")
    assert result.exit_code == 0, result.output
    after = [json.loads(line) for line in run(config, "spool", "export", "td").stdout.splitlines()]
    assert [line["event"] for line in after[3:]] == [line["event"] for line in before]
    assert [line["accepted_at"] for line in after[3:]] == [line["accepted_at"] for line in before]
    assert not (config.parent / "data" / "spool" / "old").exists()
    assert run(config, "audit").exit_code == 0


def test_adopt_of_a_configured_or_unknown_destination_is_a_usage_error(config: Path) -> None:
    filled(config)
    assert run(config, "spool", "adopt", "td", "td").exit_code == 2
    assert run(config, "spool", "adopt", "nobody", "td").exit_code == 2
    assert run(config, "spool", "adopt", "td2", "nobody").exit_code == 2


def test_erase_without_a_daemon_works_on_the_files_and_prints_a_receipt(config: Path) -> None:
    filled(config, count=4)
    filled(config, count=3, user="jane")
    filled(config, "orphan", count=2, user="jane")
    bury(config, "jane")
    dry = json.loads(run(config, "erase", "--client-user", "jane", "--dry-run", "--json").stdout)
    receipt = json.loads(run(config, "erase", "--client-user", "jane", "--json").stdout)
    assert (dry["dry_run"], receipt["dry_run"]) == (True, False)
    assert dry["destinations"] == receipt["destinations"]
    by_name = {found["destination"]: found for found in receipt["destinations"]}
    assert (by_name["td"]["queued"], by_name["td"]["ended"], by_name["td"]["dead_letters"]) == (3, 1, 1)
    assert by_name["orphan"]["queued"] == 2
    left = b"".join(path.read_bytes() for path in (config.parent / "data").rglob("*") if path.is_file())
    assert b"jane" not in left
    assert len(run(config, "spool", "export", "td").stdout.splitlines()) == 4
    audit = run(config, "audit")
    assert audit.exit_code == 0, audit.output


def test_erase_wants_exactly_one_person(config: Path) -> None:
    assert run(config, "erase").exit_code == 2
    assert run(config, "erase", "--email", "a@example.com", "--user-id", "1").exit_code == 2

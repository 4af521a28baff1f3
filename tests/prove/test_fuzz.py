"""P11: coverage-guided fuzzing of the door and of the vendor checks finds nothing, and finds a bug that is planted.

FORWARDER_FUZZ_SCALE multiplies the runs (1 by default: about two minutes in all). A share of them takes inputs as large
as the door's limits, from seeds that are so already: coverage alone does not lead there.
"""

import os
import shutil
import site
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.prove.support import tree

pytestmark = pytest.mark.prove

SCALE = float(os.environ.get("FORWARDER_FUZZ_SCALE", "1"))
TARGETS = {"door": ("corpus", 12_000), "guarded": ("corpus", 12_000), "body": ("corpus-bodies", 300_000)}
"""Target: its corpus in tests/data, and runs."""
SMALL, LARGE = 4_096, 80 * 1024
"""Bytes of an input; the large ones hold a head of 32 KiB and a body of 64."""
LARGE_SHARE = 0.1
PATIENCE_S = 600

DIGITS = b"9" * 4_400
"""More than Python makes a number of."""
WELCOME = b"Host: app.example\r\nX-Forwarder-Token: open-sesame\r\nOrigin: https://app.example\r\n"
_POST = b"POST /v2/ HTTP/1.1\r\nHost: localhost\r\n"
_SIGNAL = b'{"appID":"a","clientUser":"b","type":"c","floatValue":%s}'
LARGE_STREAMS = {
    "digits-length": _POST + b"Content-Length: " + DIGITS + b"\r\n\r\n",
    "digits-length-zeros": _POST + b"Content-Length: " + b"0" * 4_400 + b"2\r\n\r\n{}",
    "digits-chunk": _POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 4_400 + b"2\r\n{}\r\n0\r\n\r\n",
    "digits-timeout": b"POST /v2/?ack=delivered&timeout=" + DIGITS + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "digits-host": b"POST /v2/ HTTP/1.1\r\nHost: localhost:" + DIGITS + b"\r\nContent-Length: 2\r\n\r\n{}",
    "head": _POST + b"X: " + b"x" * 32_600 + b"\r\n\r\n",
    "headers": _POST + b"X-Y: z\r\n" * 4_050 + b"\r\n",
    "body": _POST + b"Content-Length: 65536\r\n\r\n[" + b",".join([b"{}"] * 21_845) + b"]",
    "pipeline": (_POST + b"Content-Length: 2\r\n\r\n{}") * 300,
}
LARGE_BODIES = {
    "digits": b"\0" + _SIGNAL % DIGITS,
    "exponent": b"\0" + _SIGNAL % (b"1e" + DIGITS),
    "levels": b"\0" + b"[" * 11_000 + b"]" * 11_000,
    "array": b"\1[" + b",".join([_SIGNAL % b"NaN"] * 1_000) + b"]",
}
"""Name: bytes. What is too long for SMALL: the first byte of a body names its path."""

PLANTED = {
    "a time-out that is no number is an error of ours": (
        "door",
        "forwarder/sources/terms.py",
        ("    except ValueError:\n        wait_s", "    except KeyError:\n        wait_s"),
    ),
    "a body is stored that is not UTF-8": (
        "body",
        "forwarder/core/json/text.py",
        ("        return error.start\n", "        return error.start if error.start < 64 else None\n"),
    ),
    "a callback of the loop raises, and nobody misses what it did": (
        "door",
        "forwarder/sources/connection.py",
        (
            "        if last:\n            self._hang_up(",
            "        if len(ready) > 3:\n            raise KeyError\n        if last:\n            self._hang_up(",
        ),
    ),
    "only the start of the token is compared": (
        "guarded",
        "forwarder/sources/gate.py",
        ("hmac.compare_digest(given, token.encode())", "hmac.compare_digest(given[:6], token.encode()[:6])"),
    ),
}
"""Bug: target, file, what is replaced by what. No corpus holds a case that fails."""


def seeds(target: str, into: Path) -> Path:
    """Write the large inputs that no corpus has, and for the guarded door the corpus with what it asks for."""
    into.mkdir()
    made = LARGE_BODIES if target == "body" else LARGE_STREAMS
    if target == "guarded":
        corpus = sorted((tree.ROOT / "tests/data/corpus").iterdir())
        made = {**made, **{path.stem: path.read_bytes() for path in corpus}}
        made = {name: data.replace(b"Host: localhost\r\n", WELCOME) for name, data in made.items()}
    for name, data in made.items():
        (into / name).write_bytes(data)
    return into


APART = ("/bin/sh", "-c", '"$@"; exit $?', "fuzz")
"""A process between: libFuzzer limits the most memory that its process ever had, which a child inherits from us."""


def fuzz(
    root: Path, target: str, found: Path, *, runs: int, size: int = SMALL, more: Sequence[Path] = ()
) -> subprocess.CompletedProcess[str]:
    """Fuzz the code under `root` with inputs of up to `size` bytes, from the corpus and the seeds in `more`.

    New inputs and the one that fails go to `found`.
    """
    python = tree.throwaway("atheris", "atheris") / "bin/python"
    found.mkdir()
    corpus = root / "tests/data" / TARGETS[target][0]
    options = [f"-runs={runs}", "-seed=1", f"-max_len={size}", "-timeout=60", f"-artifact_prefix={found}/"]
    options += ["-verbosity=1", *(["-len_control=0"] if size > SMALL else [])]
    return subprocess.run(
        [*APART, str(python), "-m", "tests.prove.fuzz", target, *map(str, (found, corpus, *more)), *options],
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *site.getsitepackages()])},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("target", TARGETS)
def test_p11_fuzzing_from_the_corpus_finds_nothing(tmp_path: Path, target: str, size: int) -> None:
    runs = int(TARGETS[target][1] * SCALE * (1 if size == SMALL else LARGE_SHARE))
    more = [seeds(target, tmp_path / "seeds")] if size > SMALL or target == "guarded" else []
    done = fuzz(tree.ROOT, target, tmp_path / "found", runs=runs, size=size, more=more)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert f"Done {runs} runs" in done.stderr
    last = next(line for line in reversed(done.stderr.splitlines()) if "cov:" in line)
    print(target, size, last)  # noqa: T201 - the figure for the docs
    assert int(last.split("cov: ")[1].split()[0]) > 300, "the code was not instrumented"


@pytest.mark.parametrize("target", TARGETS)
def test_the_large_seeds_are_beyond_what_the_small_runs_reach_and_no_larger_than_the_large_ones(
    tmp_path: Path, target: str
) -> None:
    sizes = {path.name: path.stat().st_size for path in seeds(target, tmp_path / "seeds").iterdir()}
    large = LARGE_BODIES if target == "body" else LARGE_STREAMS
    assert all(SMALL < sizes[name] <= LARGE for name in large), sizes


@pytest.mark.parametrize("bug", PLANTED)
def test_fuzzing_finds_a_planted_bug(tmp_path: Path, bug: str) -> None:
    target, name, (sound, wrong) = PLANTED[bug]
    copy = tmp_path / "copy"
    for part in ("forwarder", "tests"):
        shutil.copytree(tree.ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"), symlinks=False)
    text = (copy / name).read_text()
    assert text.count(sound) == 1
    (copy / name).write_text(text.replace(sound, wrong))
    more = [seeds(target, tmp_path / "seeds")] if target == "guarded" else []
    done = fuzz(copy, target, tmp_path / "found", runs=2_000_000, more=more)
    assert done.returncode != 0, f"not found: {bug}"
    assert "Uncaught Python exception" in done.stdout + done.stderr
    assert [path.name for path in (tmp_path / "found").iterdir() if path.name.startswith("crash-")]

"""P11: coverage-guided fuzzing of the door and of the vendor checks finds nothing, and finds a bug that is planted.

FORWARDER_FUZZ_SCALE multiplies the runs (1 by default: about a minute in all).
"""

import os
import shutil
import site
import subprocess
from pathlib import Path

import pytest

from tests.prove.support import tree

pytestmark = pytest.mark.prove

SCALE = float(os.environ.get("FORWARDER_FUZZ_SCALE", "1"))
TARGETS = {"door": ("corpus", 12_000), "body": ("corpus-bodies", 300_000)}
"""Target: its corpus in tests/data, and runs."""
PATIENCE_S = 600

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
}
"""Bug: target, file, what is replaced by what. No corpus holds a case that fails."""


def fuzz(root: Path, target: str, found: Path, *, runs: int) -> subprocess.CompletedProcess[str]:
    """Fuzz the code under `root`; new inputs and the one that fails go to `found`."""
    python = tree.throwaway("atheris", "atheris") / "bin/python"
    found.mkdir()
    corpus = root / "tests/data" / TARGETS[target][0]
    options = [f"-runs={runs}", "-seed=1", "-max_len=4096", "-timeout=60", f"-artifact_prefix={found}/", "-verbosity=1"]
    return subprocess.run(
        [str(python), "-m", "tests.prove.fuzz", target, str(found), str(corpus), *options],
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *site.getsitepackages()])},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize("target", TARGETS)
def test_p11_fuzzing_from_the_corpus_finds_nothing(tmp_path: Path, target: str) -> None:
    runs = int(TARGETS[target][1] * SCALE)
    done = fuzz(tree.ROOT, target, tmp_path / "found", runs=runs)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert f"Done {runs} runs" in done.stderr
    last = next(line for line in reversed(done.stderr.splitlines()) if "cov:" in line)
    print(target, last)  # noqa: T201 - the figure for the docs
    assert int(last.split("cov: ")[1].split()[0]) > 300, "the code was not instrumented"


@pytest.mark.parametrize("bug", PLANTED)
def test_fuzzing_finds_a_planted_bug(tmp_path: Path, bug: str) -> None:
    target, name, (sound, wrong) = PLANTED[bug]
    copy = tmp_path / "copy"
    for part in ("forwarder", "tests"):
        shutil.copytree(tree.ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"), symlinks=False)
    text = (copy / name).read_text()
    assert text.count(sound) == 1
    (copy / name).write_text(text.replace(sound, wrong))
    done = fuzz(copy, target, tmp_path / "found", runs=2_000_000)
    assert done.returncode != 0, f"not found: {bug}"
    assert "Uncaught Python exception" in done.stdout + done.stderr
    assert [path.name for path in (tmp_path / "found").iterdir() if path.name.startswith("crash-")]

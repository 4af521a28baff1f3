"""Debian trees for the proofs: made once by mmdebstrap, kept in a cache, and the project installed from its lock file.

The cache is $FORWARDER_TEST_CACHE, else $XDG_CACHE_HOME/forwarder-tests.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SUITE = "bookworm"
SYSTEMD_PACKAGES = "systemd,systemd-sysv,dbus,libnss-systemd,python3,python3-venv,ca-certificates,iproute2,curl,procps"
IMAGE_PACKAGES = "python3,python3-venv,ca-certificates"


def need(*programs: str, packages: str) -> None:
    """Skip, with the reason, unless this is root on Debian with these programs (installed if they can be)."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if missing := _missing(programs):
        if shutil.which("apt-get") is None:
            pytest.skip(f"needs {', '.join(missing)}: packages {packages} of Debian")
        _quiet("apt-get", "update")
        _quiet("apt-get", "install", "-y", "--no-install-recommends", *packages.split())
    if missing := _missing(programs):
        pytest.skip(f"needs {', '.join(missing)}, which {packages} did not bring")


def debian(name: str, packages: str) -> Path:
    """Return a tree with these packages, from the cache if it is there; nobody may change it."""
    tree = cache() / f"{SUITE}-{name}"
    if tree.exists():
        return tree
    fresh = tree.with_name(f"{tree.name}.{os.getpid()}")
    made = _quiet("mmdebstrap", "--variant=minbase", f"--include={packages}", SUITE, str(fresh))
    if made.returncode:
        pytest.skip(f"mmdebstrap cannot reach a Debian mirror: {made.stderr[-300:]}")
    fresh.rename(tree)
    return tree


def cache() -> Path:
    """Return the directory that is kept between runs."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "forwarder-tests"
    path = Path(os.environ.get("FORWARDER_TEST_CACHE") or base)
    path.mkdir(parents=True, exist_ok=True)
    return path


def wheels(directory: Path, *, lock: str = "requirements.lock") -> Path:
    """Fill `directory` with the wheel of this tree and everything that a lock file names, checked by hash."""
    directory.mkdir(exist_ok=True)
    platform = ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=abi3"]
    platform += ["--abi=none", "--platform=manylinux2014_x86_64", "--platform=manylinux_2_28_x86_64", "--platform=any"]
    target = platform if sys.version_info[:2] != (3, 11) else []
    run(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps", *target),
        *("-r", str(ROOT / lock), "-d", str(directory)),
    )
    source = directory.parent / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "forwarder", source / "forwarder", ignore=shutil.ignore_patterns("__pycache__"))
    run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"),
        *("-w", str(directory), str(source)),
    )
    return next(directory.glob("forwarder-*.whl"))


def build_backend(directory: Path) -> None:
    """Add the wheel of the build backend, as the development lock file pins it."""
    lines = iter((ROOT / "requirements-dev.lock").read_text().splitlines())
    entry: list[str] = []
    for line in lines:
        if line.startswith("setuptools==") or entry:
            entry.append(line)
            if not line.endswith("\\"):
                break
    lock = directory.parent / "build.lock"
    lock.write_text("\n".join(entry) + "\n")
    run(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps"),
        *("-r", str(lock), "-d", str(directory)),
    )


def throwaway(name: str, *packages: str) -> Path:
    """Return a virtual environment with tools that are no dependency of the project, from the cache if it is there."""
    place = cache() / f"venv-{name}"
    if not place.exists():
        fresh = place.with_name(f"{place.name}.{os.getpid()}")
        run(sys.executable, "-m", "venv", str(fresh))
        done = _quiet(str(fresh / "bin/pip"), "install", "--quiet", *packages)
        if done.returncode:
            shutil.rmtree(fresh)
            pytest.skip(f"pip cannot get {', '.join(packages)}: {done.stderr[-300:]}")
        fresh.rename(place)
    return place


def run(*command: str, env: dict[str, str] | None = None) -> str:
    """Run a command; return what it printed, or fail with it."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def _missing(programs: Sequence[str]) -> list[str]:
    return [program for program in programs if shutil.which(program) is None]


def _quiet(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

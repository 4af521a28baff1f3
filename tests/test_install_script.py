"""systemd/install.sh: beside what is there, never over it. On a real systemd: tests/prove/test_systemd.py."""

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INFO = "forwarder-0.1.0.dist-info"
WHEEL = {
    "forwarder.py": "def main():\n    print('forwarder, version 0.1.0')\n",
    f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: forwarder\nVersion: 0.1.0\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{INFO}/entry_points.txt": "[console_scripts]\nforwarder = forwarder:main\n",
    f"{INFO}/RECORD": "",
}


class Site:
    """A copy of systemd/ beside a lock file that asks for nothing, and a wheel as small as one can be."""

    def __init__(self, directory: Path) -> None:
        self.prefix = directory / "opt/forwarder"
        self.units = directory / "units"
        self.config = directory / "config"
        self._script = directory / "clone/systemd/install.sh"
        self._wheel = directory / "forwarder-0.1.0-py3-none-any.whl"
        self.prefix.parent.mkdir()
        shutil.copytree(ROOT / "systemd", self._script.parent)
        (directory / "clone/requirements.lock").write_text("")
        with zipfile.ZipFile(self._wheel, "w") as wheel:
            for name, text in WHEEL.items():
                wheel.writestr(name, text)

    def install(self) -> subprocess.CompletedProcess[str]:
        places = {"PREFIX": self.prefix, "UNITS": self.units, "CONFIG": self.config}
        environment = {**os.environ, **{name: str(path) for name, path in places.items()}, "PIP_NO_INDEX": "1"}
        command = ["sh", str(self._script), str(self._wheel)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=50)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_directory_in_the_place_of_the_link_is_left_alone_and_it_says_what_to_do(site: Site) -> None:
    (site.prefix / "bin").mkdir(parents=True)
    done = site.install()
    assert done.returncode == 1
    assert f"{site.prefix} is no link" in done.stderr
    assert f"mv {site.prefix} {site.prefix}-old" in done.stderr
    assert list(site.prefix.parent.iterdir()) == [site.prefix], "nothing is begun"
    assert not site.units.exists()
    assert not site.config.exists()


def test_a_second_installation_moves_the_link_and_leaves_the_first_one_and_the_configuration(site: Site) -> None:
    site.prefix.with_name("forwarder-20000101000000").mkdir()
    site.prefix.symlink_to("forwarder-20000101000000")
    site.config.mkdir()
    (site.config / "forwarder.toml").write_text("# mine\n")
    done = site.install()
    assert done.returncode == 0, done.stderr
    assert done.stdout == "forwarder, version 0.1.0\n"
    assert site.prefix.is_symlink()
    assert len(list(site.prefix.parent.iterdir())) == 3, "the link, the first one, the new one"
    assert (site.config / "forwarder.toml").read_text() == "# mine\n"
    unit = (site.units / "forwarder.service").read_text()
    assert f"ExecStart={site.prefix}/bin/forwarder run --config {site.config}/forwarder.toml" in unit

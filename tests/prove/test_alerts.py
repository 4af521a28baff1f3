"""The alert rules, as Prometheus itself reads them: valid, silent while all is well, firing when it is not."""

import pytest

from tests.prove.support import tree

pytestmark = pytest.mark.prove


def test_the_rules_are_valid_and_fire_when_they_should() -> None:
    tree.need("promtool", packages="prometheus")
    tree.run("promtool", "check", "rules", str(tree.ROOT / "config/prometheus-alerts.yaml"))
    tree.run("promtool", "test", "rules", str(tree.ROOT / "config/prometheus-alerts.test.yaml"))

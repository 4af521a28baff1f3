"""docs/LOGS.md names every event that the daemon logs, with its levels, and no other."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

from forwarder.core.spool.recovery import Finding

ROOT = Path(__file__).parents[1]
LEVELS = {"debug", "info", "warning", "error", "critical"}
BY_OTHER_MEANS = {"library": "as given"}
"""Logged under the level that a library chose."""
FINDINGS = {"unreadable": "error", "corrupt": "error", "unsupported": "error"}
"""Levels of what recovery finds (spool/opening.py); the others are warnings."""


def documented() -> dict[str, set[str]]:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", (ROOT / "docs/LOGS.md").read_text(), re.MULTILINE)
    assert len(rows) == len({name for name, _ in rows}), "each stands there once"
    return {name: set(levels.split(", ")) for name, levels in rows}


def calls() -> Iterator[ast.Call]:
    for path in (ROOT / "forwarder").rglob("*.py"):
        if path.relative_to(ROOT / "forwarder").parts[0] not in {"cli", "receiver"}:
            yield from (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


def logged() -> dict[str, set[str]]:
    """Return the levels of every event in the source. What logs is named `log`, or takes the level first."""
    found: dict[str, set[str]] = defaultdict(set)
    for call in calls():
        function = ast.unparse(call.func)
        words = [each.value for each in call.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        method = function.rpartition(".")[2].replace("exception", "error")
        if re.search(r"\b_?log\.", function) and method in LEVELS and words:
            found[words[0]].add(method)
        elif method in {"_report", "Report"} and len(words) == 2 and words[0] in LEVELS:
            found[words[1]].add(words[0])
        elif function in {"self.trouble", "self._effects.trouble"} and words:  # flusher/effects.py
            found[words[0]].add("error")
    kinds = get_args(get_type_hints(Finding)["kind"])
    for kind in kinds:
        found[f"spool_{kind}"].add(FINDINGS.get(kind, "warning"))
    return dict(found) | {name: {level} for name, level in BY_OTHER_MEANS.items()}


def test_every_event_that_is_logged_is_documented_with_its_levels() -> None:
    assert logged() == documented()


def test_every_call_that_logs_names_its_event_in_letters() -> None:
    """An event put together at run time would escape the list; the two places that do are known to it."""
    known = {"f'spool_{finding.kind}'", "report.event"}
    odd = set()
    for call in calls():
        function = ast.unparse(call.func)
        is_log = re.search(r"\b_?log\.(debug|info|warning|error|exception)$", function) or function == "say"
        if is_log and call.args and not isinstance(call.args[0], ast.Constant):
            odd.add(ast.unparse(call.args[0]))
    assert odd <= known


def test_links_to_the_runbook_lead_to_sections() -> None:
    titles = re.findall(r"^#+ (.+)$", (ROOT / "docs/RUNBOOK.md").read_text(), re.MULTILINE)
    sections = {re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in titles}
    assert set(re.findall(r"RUNBOOK\.md#([\w-]+)", (ROOT / "docs/LOGS.md").read_text())) <= sections

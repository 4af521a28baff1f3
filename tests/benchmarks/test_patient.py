import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks import patient

PROGRAM = """
import json, sys, time
passed, told = time.monotonic(), time.time()
while time.monotonic() < passed + 0.03:
    pass
told, passed = time.time() - told, time.monotonic() - passed
print(json.dumps([__name__, sys.argv[1:], sys.getswitchinterval(), told, passed]))
"""


def test_a_program_is_run_with_its_arguments_a_slower_clock_and_rarer_changes_of_threads(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"}
    command = [sys.executable, "-m", "benchmarks.patient", "program", "run", "--config", "x"]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    name, arguments, switch_s, told, passed = json.loads(output)
    assert (name, arguments) == ("__main__", ["run", "--config", "x"])
    assert switch_s == patient.SWITCH_S
    assert 0 < told * patient.SLOWER <= passed * 1.01

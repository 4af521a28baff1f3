"""Run a module that a tool slows down as if it were at full speed: `python -m benchmarks.patient MODULE [ARGUMENT…]`.

Slowed thirty times, the interpreter's 5 ms are a sixth of one, and a stamp that is made once a millisecond is made once
a request. So threads are given more time before they must give way, and the clock (not the timers) goes slower too.
"""

import runpy
import sys
import time

SLOWER = 30
SWITCH_S = 0.005 * SLOWER


def slow_down() -> None:
    """Let `time.time` go slower from now on, and threads change less often."""
    told, began = time.time, time.time()
    time.time = lambda: began + (told() - began) / SLOWER
    sys.setswitchinterval(SWITCH_S)


if __name__ == "__main__":
    slow_down()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

"""The benchmarks: `python -m benchmarks` prints the performance table, each case by name is a command of its own."""

"""The atheris targets: bytes at a connection of the door with the real vendor checks behind it, and at these alone.

    python -m tests.prove.fuzz door|body CORPUS… [-max_total_time=60]

What must hold is in tests/support/fuzz_targets.py; test_fuzz.py runs this. A corpus is in tests/data.
"""

import importlib
import sys


def main() -> None:
    """Fuzz for ever, or as the arguments say."""
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

    with atheris.instrument_imports(include=["forwarder"]):
        targets = importlib.import_module("tests.support.fuzz_targets").TARGETS
    atheris.Setup([sys.argv[0], *sys.argv[2:]], targets[sys.argv[1]])
    atheris.Fuzz()


if __name__ == "__main__":
    main()

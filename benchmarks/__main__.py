"""python -m benchmarks [NAME...]: all benchmarks, or the named ones."""

import importlib
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from absl import app

NAMES = ("dispatch", "graph", "memory", "models", "ops", "quality", "rnn")


def main(argv: list[str]) -> int:
    chosen = argv[1:] or NAMES
    unknown = set(chosen) - set(NAMES)
    if unknown:
        print(f"unknown benchmark {sorted(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    for name in chosen:
        print(f"== {name}", flush=True)
        importlib.import_module(f"benchmarks.{name}").run()
    return 0


if __name__ == "__main__":
    app.run(main)

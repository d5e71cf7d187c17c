"""Prints the include folder of TensorFlow for the build, without importing TensorFlow."""

import importlib.util
import pathlib
import sys


def main() -> int:
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        print("TensorFlow is not installed", file=sys.stderr)
        return 1
    print(pathlib.Path(spec.submodule_search_locations[0]) / "include")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Prints where TensorFlow's headers are, for the build. TensorFlow is found, never imported.

    tools/tf_headers.py --cache DIR   the include folder: of the TensorFlow beside this interpreter,
                                      else of a pinned wheel that is unpacked in DIR
    tools/tf_headers.py --installed   the folder of the TensorFlow beside this interpreter, if any

pip builds in an isolated environment, in which TensorFlow is not importable; but the interpreter
is still that of the environment which pip installs into, so its site-packages folders tell.

Only the standard library is used: this runs inside pip.
"""

import argparse
import os
import pathlib
import site
import sys
import sysconfig

# What to build against when there is none. The plugin's C headers are the same in all that we
# support, and the library works with every one of them.
PINNED = "2.21.0"
# Tells that a folder has all headers, not only a Python package called tensorflow.
NEEDED = pathlib.Path("include/tensorflow/c/kernels.h")


def site_folders() -> list[str]:
    """Where packages of this interpreter may be, whatever pip did to sys.path."""
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *sys.path]
    # uv and `python -m build` make a fresh environment for the build; the one that it is for is
    # then only known from this.
    if environment := os.environ.get("VIRTUAL_ENV"):
        paths = {"base": environment, "platbase": environment}
        folders += [sysconfig.get_path(kind, vars=paths) for kind in ("purelib", "platlib")]
    return [*folders, site.getusersitepackages()]


def installed() -> pathlib.Path | None:
    for folder in site_folders():
        candidate = pathlib.Path(folder) / "tensorflow"
        if (candidate / NEEDED).exists():
            return candidate.resolve()
    return None


def from_wheel(cache: pathlib.Path) -> pathlib.Path:
    import build_shim  # it unpacks wheels, too

    build_shim.say = lambda message: print(message, file=sys.stderr)
    wheel = build_shim.download(PINNED, cache, "")
    return build_shim.of_wheel(wheel, cache).folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=pathlib.Path)
    parser.add_argument("--installed", action="store_true")
    arguments = parser.parse_args()
    found = installed()
    if arguments.installed:
        print(found or "")
        return 0
    if found is None:
        if arguments.cache is None:
            print("TensorFlow is not installed beside this Python", file=sys.stderr)
            return 1
        found = from_wheel(arguments.cache)
    print(found / "include")
    return 0


if __name__ == "__main__":
    sys.exit(main())

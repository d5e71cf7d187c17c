"""Makes a wheel that serves every TensorFlow which we support: library, Python package, all shims.

    tools/make_wheel.py --platform=macos    arm64, cross-built with zig, without Apple's SDK
    tools/make_wheel.py --platform=linux    x86-64, the tag measured by auditwheel

The same sources give the same bytes, in whatever folder. The shims are built against the headers of
TensorFlow's own wheels (tools/build_shim.py), which are downloaded into .cache/wheels on first use:
200 MB to 300 MB each.
"""

import dataclasses
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable

import build_shim
from absl import app, flags, logging

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "wheels"
# Of all that an archive dates; the earliest that a zip file can.
EPOCH = {"SOURCE_DATE_EPOCH": "315532800"}
TOOLCHAIN = ROOT / "tools" / "macos" / "toolchain.cmake"


@dataclasses.dataclass(frozen=True)
class Platform:
    """What differs: the build folder, the kind of library, options of CMake, the platform of
    TensorFlow's wheels, the compiler of the shims, and the tag."""

    build: pathlib.Path
    extension: str
    defines: dict[str, str]
    tensorflow: str
    cxx: Callable[[], str]
    tag: Callable[[pathlib.Path], str]


def oldest_macos() -> str:
    """As pyproject.toml says it to scikit-build-core."""
    text = (ROOT / "pyproject.toml").read_text()
    (version,) = re.findall(r'CMAKE_OSX_DEPLOYMENT_TARGET = "([\d.]+)"', text)
    return version


def macos_tag(wheel: pathlib.Path) -> str:
    return f"macosx_{oldest_macos().replace('.', '_')}_arm64"


def manylinux_tag(wheel: pathlib.Path) -> str:
    """The oldest manylinux that has the versions of the symbols which the libraries need."""
    from auditwheel.architecture import Architecture
    from auditwheel.libc import Libc
    from auditwheel.wheel_abi import analyze_wheel_abi

    found = analyze_wheel_abi(
        Libc.GLIBC,
        Architecture(platform.machine()),
        wheel,
        frozenset(build_shim.FRAMEWORKS),  # the shims find it loaded
        disable_isa_ext_check=False,
        allow_graft=False,
    )
    tag = found.overall_policy.name
    if not tag.startswith("manylinux"):
        raise SystemExit(f"{wheel.name} needs more than any manylinux has: {found}")
    return tag


def zig() -> str:
    """The compiler and options of the toolchain file."""
    return f"{sys.executable} -m ziglang c++ -target aarch64-macos.{oldest_macos()} -g0"


PLATFORMS = {
    "macos": Platform(
        ROOT / "build-macos",
        ".dylib",
        {  # as make cross-macos has it, so that its objects serve
            "CMAKE_TOOLCHAIN_FILE": str(TOOLCHAIN),
            "TFMETAL_PYTHON": sys.executable,
            "CMAKE_COMPILE_WARNING_AS_ERROR": "ON",
        },
        "macosx_12_0_arm64",
        zig,
        macos_tag,
    ),
    "linux": Platform(ROOT / "build-wheel", ".so", {}, "", lambda: flags.FLAGS.cxx, manylinux_tag),
}


def up_to_date(shim: pathlib.Path) -> bool:
    """Whether it is newer than all that it is built from; TensorFlow's releases do not change."""
    sources = [*build_shim.SHIM.iterdir(), *build_shim.MACOS.glob("*.*"), pathlib.Path(__file__)]
    sources.append(pathlib.Path(build_shim.__file__))
    return shim.exists() and all(s.stat().st_mtime < shim.stat().st_mtime for s in sources)


def build_shims(chosen: Platform) -> pathlib.Path:
    """The folder of the shims of all releases that need one on this platform."""
    folder = chosen.build / "all_shims"
    versions = build_shim.RELEASES[chosen.extension]
    for number, version in enumerate(versions, 1):
        logging.info("shim %d of %d: TensorFlow %s", number, len(versions), version)
        if not up_to_date(folder / build_shim.file_name(version, chosen.extension)):
            wheel = build_shim.download(version, CACHE, chosen.tensorflow)
            build_shim.build(build_shim.of_wheel(wheel, CACHE), folder, chosen.cxx())
    return folder


def run(*command: str | pathlib.Path) -> str:
    result = subprocess.run(
        [str(part) for part in command],
        env={**EPOCH, **os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{result.stdout}{result.stderr}")
    return result.stdout


def build_wheel(chosen: Platform, shims: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """As `pip install .` builds it, but for the platform; its tag is still of this machine."""
    defines = {**chosen.defines, "TFMETAL_SHIMS": str(shims)}
    settings = [f"build-dir={chosen.build}", *(f"cmake.define.{k}={v}" for k, v in defines.items())]
    options = [option for setting in settings for option in ("--config-settings", setting)]
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps")
    run(*pip, "--no-build-isolation", *options, "--wheel-dir", out, ROOT)
    (wheel,) = out.glob("*.whl")
    return wheel


def define_flags() -> None:
    """Not on import: tests import several tools, each with its own --out."""
    flags.DEFINE_enum("platform", None, ["linux", "macos"], "What to run on.", required=True)
    flags.DEFINE_string("out", str(ROOT / "dist"), "Where the wheel goes.")
    flags.DEFINE_string("cxx", build_shim.default_cxx(), "Compiler for Linux.")


def main(_: list[str]) -> None:
    chosen = PLATFORMS[flags.FLAGS.platform]
    shims = build_shims(chosen)
    out = pathlib.Path(flags.FLAGS.out)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        logging.info("building in %s", chosen.build)
        wheel = build_wheel(chosen, shims, pathlib.Path(scratch))
        tagged = run(
            *(sys.executable, "-m", "wheel", "tags"),
            *("--platform-tag", chosen.tag(wheel), "--remove", wheel),
        )
        made = wheel.with_name(tagged.strip()).rename(out / tagged.strip())
    logging.info("%s: %d bytes", made, made.stat().st_size)


if __name__ == "__main__":
    define_flags()
    app.run(main)

"""Builds the variable shim of a TensorFlow release (plugin/variables/shim/shim.cc says what it is).

    tools/build_shim.py                       for the TensorFlow of this interpreter
    tools/build_shim.py --python-tf FOLDER    for the TensorFlow in this folder
    tools/build_shim.py --version 2.20.0      for a release, from its wheel on PyPI
    tools/build_shim.py --wheel FILE          for a wheel
    tools/build_shim.py --all                 for every release that needs one

The result is <out>/libvariables-<major>.<minor>.so (.dylib for a macOS wheel; not on a Mac,
--cxx then is the compiler of tools/macos/). A TensorFlow that exports the functions itself needs no
shim and gets none.

Only the standard library is used, argparse instead of absl included: `pip install .` runs this in
an isolated build environment.
"""

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHIM = ROOT / "plugin" / "variables" / "shim"
MACOS = ROOT / "tools" / "macos"

# Releases whose wheels declare the variable functions but do not export them, by kind of library.
RELEASES = {".so": ("2.19.1", "2.20.0", "2.21.0"), ".dylib": ("2.20.0", "2.21.0")}
# In the string table of libtensorflow_framework exactly when it is exported.
PROBE = b"TF_AssignUpdateVariable"
FRAMEWORKS = {"libtensorflow_framework.so.2": ".so", "libtensorflow_framework.2.dylib": ".dylib"}

# absl needs C++17. NDEBUG as in the wheels; the warnings would be TensorFlow's own.
COMPILE = ["-std=c++17", "-O2", "-DNDEBUG", "-fPIC", "-shared", "-fvisibility=hidden", "-w"]
LINK = {
    ".so": [f"-Wl,--version-script={SHIM / 'exports.linux'}", "-Wl,-z,defs", "-s"],
    # Binds to TensorFlow's library, found from site-packages/tensorflow_metal_py/_shims.
    # 2.20's headers specialise std::is_signed, which recent clangs refuse by default.
    ".dylib": [
        "-Wno-invalid-specialization",
        "-Wl,-install_name,@rpath/{name}",
        "-Wl,-rpath,@loader_path/../../tensorflow",
        f"-Wl,-exported_symbols_list,{SHIM / 'exports.macos'}",
    ],
}
EXPORTS = ("--exports", str(SHIM / "exports.macos"))


class ShimError(Exception):
    """A message for the user."""


@dataclasses.dataclass(frozen=True)
class TensorFlow:
    """An unpacked TensorFlow: its folder, and its version as TF_Version() spells it."""

    folder: pathlib.Path
    version: str

    @property
    def framework(self) -> pathlib.Path:
        for name in FRAMEWORKS:
            if (self.folder / name).exists():
                return self.folder / name
        raise ShimError(f"{self.folder} has no libtensorflow_framework")

    @property
    def extension(self) -> str:
        return FRAMEWORKS[self.framework.name]

    def exports_variables(self) -> bool:
        return PROBE in self.framework.read_bytes()


def say(message: str) -> None:
    print(message, flush=True)


def spelled_by_tensorflow(version: str) -> str:
    """2.22.0.dev20260905 -> 2.22.0-dev20260905, 2.21.0rc1 -> 2.21.0-rc1."""
    return re.sub(r"^(\d+\.\d+\.\d+)[.-]?(?=[a-z])", r"\1-", version)


def installed(folder: pathlib.Path) -> TensorFlow:
    """The TensorFlow in this folder of a site-packages; not imported."""
    for distribution in importlib.metadata.distributions(path=[str(folder.parent)]):
        name = (distribution.metadata["Name"] or "").lower().replace("-", "_")
        if not name.startswith(("tensorflow", "tf_nightly")):
            continue
        if "tensorflow/libtensorflow_framework" in (distribution.read_text("RECORD") or ""):
            return TensorFlow(folder, spelled_by_tensorflow(distribution.version))
    raise ShimError(f"no installed distribution owns {folder}")


def of_this_interpreter() -> TensorFlow:
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        raise ShimError("TensorFlow is not installed here")
    return installed(pathlib.Path(spec.submodule_search_locations[0]))


def of_wheel(wheel: pathlib.Path, cache: pathlib.Path) -> TensorFlow:
    """Unpacks the headers and the framework library of a wheel, once."""
    version = spelled_by_tensorflow(wheel.name.split("-")[1])
    target = cache / wheel.stem
    if not target.exists():
        say(f"  unpacking {wheel.name}")
        cache.mkdir(parents=True, exist_ok=True)
        partial = pathlib.Path(tempfile.mkdtemp(dir=cache))
        prefixes = ("tensorflow/include/", *(f"tensorflow/{name}" for name in FRAMEWORKS))
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.startswith(prefixes)]
            archive.extractall(partial, names)
        partial.rename(target)
    return TensorFlow(target / "tensorflow", version)


def download(version: str, cache: pathlib.Path, tag: str) -> pathlib.Path:
    """The wheel of a release; tag: a platform such as macosx_12_0_arm64, or this one if empty."""
    # tensorflow-cpu exists for Linux and Windows only.
    linux = "linux" in tag if tag else platform.system() == "Linux"
    project = "tensorflow_cpu" if linux and platform.machine() == "x86_64" else "tensorflow"
    folder = cache / (tag or "native")
    pattern = f"{project}-{version}-*.whl"
    if not list(folder.glob(pattern)):
        say(f"  downloading {project} {version}")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", str(folder)]
        command += ["--platform", tag] if tag else []
        run([*command, f"{project}=={version}"])
    return next(folder.glob(pattern))


def run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        tail = "\n".join((result.stdout + result.stderr).splitlines()[-30:])
        raise ShimError(f"{shlex.join(command)}\n{tail}")


def file_name(version: str, extension: str) -> str:
    """The name that plugin/variables/shim_loader.cc looks for."""
    minor = ".".join(version.split(".")[:2])
    return f"libvariables-{minor}{extension}"


def build(tf: TensorFlow, out: pathlib.Path, cxx: str) -> pathlib.Path | None:
    """Builds the shim of one TensorFlow into `out`; None when it needs none."""
    if tf.exports_variables():
        say(f"TensorFlow {tf.version} exports its variable functions: no shim needed")
        return None
    library = out / file_name(tf.version, tf.extension)
    folder = tf.folder.resolve()
    start = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    cross_built = tf.extension == ".dylib" and sys.platform != "darwin"
    sources = [
        str(SHIM / "shim.cc"),
        *(["-s", str(MACOS / "new_delete.cc")] if cross_built else []),
    ]
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        partial = pathlib.Path(scratch) / library.name
        run(
            [
                *shlex.split(cxx),
                *COMPILE,
                f'-DTFMETAL_SHIM_TF_VERSION="{tf.version}"',
                # TensorFlow's checks name their files: the same bytes wherever it is built. The
                # last map that fits counts, and GCC names system headers by their real path.
                f"-ffile-prefix-map={ROOT}=.",
                f"-ffile-prefix-map={folder}=tensorflow",
                *("-isystem", str(folder / "include")),
                *sources,
                *("-o", str(partial)),
                str(tf.framework),
                *(flag.format(name=library.name) for flag in LINK[tf.extension]),
            ]
        )
        if cross_built:
            run([sys.executable, str(MACOS / "seal.py"), str(partial), *EXPORTS])
        partial.replace(library)  # never a half-written library where the plugin looks
    size = library.stat().st_size // 1024
    say(f"TensorFlow {tf.version}: {library} ({size} KiB, {time.monotonic() - start:.0f} s)")
    return library


def default_cxx() -> str:
    return os.environ.get("CXX") or ("clang++" if shutil.which("clang++") else "g++")


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--python-tf", type=pathlib.Path, help="folder of an installed tensorflow")
    which.add_argument("--wheel", type=pathlib.Path, nargs="+", default=[], help="wheel files")
    which.add_argument("--version", nargs="+", default=[], help="releases to download")
    which.add_argument(
        "--all", action="store_true", help="the same as --version for each that needs one"
    )
    parser.add_argument("--platform", default="", help="wheel platform, e.g. macosx_12_0_arm64")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tensorflow_metal_py" / "_shims")
    parser.add_argument("--cache", type=pathlib.Path, default=ROOT / ".cache" / "wheels")
    parser.add_argument(
        "--cxx", default=default_cxx(), help="compiler command (default: %(default)s)"
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    args = parse(argv)
    on_macos = args.platform.startswith("macos") or (not args.platform and sys.platform == "darwin")
    versions = RELEASES[".dylib" if on_macos else ".so"] if args.all else args.version
    if args.python_tf:
        sources = [lambda: installed(args.python_tf.resolve())]
    elif args.wheel:
        sources = [lambda w=w: of_wheel(w, args.cache) for w in args.wheel]
    elif versions:
        sources = [
            lambda v=v: of_wheel(download(v, args.cache, args.platform), args.cache)
            for v in versions
        ]
    else:
        sources = [of_this_interpreter]
    failures = 0
    for number, source in enumerate(sources, 1):
        say(f"[{number}/{len(sources)}]")
        try:
            build(source(), args.out, args.cxx)
        except ShimError as error:
            failures += 1
            say(f"FAILED: {error}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Compiles the plugin for arm64 macOS with zig (package ziglang), links it, looks at the result.

    tools/cross_compile.py --out build-macos

Everything but plugin/host is compiled: a source that Apple's compiler would refuse shows here. The
dylib is linked against stubs of Apple's libraries that list exactly the symbols we mean to use.
"""

import argparse
import concurrent.futures
import os
import pathlib
import shlex
import struct
import subprocess
import sys
import time

import tf_headers

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = "aarch64-macos.14.0"
FOLDERS = ("plugin", "kernels", "grappler")
# Host side of the seam, and what is built per TensorFlow minor.
EXCLUDED = ("plugin/host/", "/shim/")

COMPILE = ["-std=c++20", "-O2", "-DNDEBUG", "-fvisibility=hidden", "-fvisibility-inlines-hidden"]
WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"]

SYSTEM = "/System/Library/Frameworks/{0}.framework/Versions/A/{0}"
# Library -> install name, symbols.
STUBS = {
    "libobjc": (
        "/usr/lib/libobjc.A.dylib",
        "objc_getClass sel_registerName objc_msgSend objc_retain objc_release objc_autorelease "
        "objc_autoreleasePoolPush objc_autoreleasePoolPop class_getInstanceMethod "
        "class_getClassMethod method_getTypeEncoding",
    ),
    "Foundation": (SYSTEM.format("Foundation").replace("/A/", "/C/"), ""),
    "Metal": (SYSTEM.format("Metal"), "MTLCreateSystemDefaultDevice"),
    "MetalPerformanceShaders": (SYSTEM.format("MetalPerformanceShaders"), ""),
    "MetalPerformanceShadersGraph": (SYSTEM.format("MetalPerformanceShadersGraph"), ""),
}

ENTRY_POINTS = {"SE_InitPlugin", "TF_InitKernel", "TF_InitGraph", "TF_InitProfiler"}


def zig(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ziglang", "c++", "-target", TARGET, *arguments]


class CommandError(Exception):
    """The command and what it printed."""


def run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise CommandError(f"{shlex.join(command)}\n{result.stdout}{result.stderr}")


def generate(out: pathlib.Path) -> list[pathlib.Path]:
    """The sources that CMake generates for macOS."""
    shaders = sorted((ROOT / "kernels" / "msl").glob("*.metal"))
    rows = {
        "shader_source.cc": ["embed_shaders.py", "{}", *map(str, shaders)],
        "jit_hook_source.cc": [
            "embed_text.py",
            "{}",
            "kJitHookSource",
            str(ROOT / "tensorflow_metal_py" / "_jit_hook.py"),
        ],
    }
    for name, (tool, *arguments) in rows.items():
        target = out / "generated" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        filled = [str(target) if argument == "{}" else argument for argument in arguments]
        run([sys.executable, str(ROOT / "tools" / tool), *filled])
    return [out / "generated" / name for name in rows]


def sources() -> list[pathlib.Path]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.cc")]
    return sorted(p for p in found if not any(part in p.as_posix() for part in EXCLUDED))


def version() -> str:
    text = (ROOT / "tensorflow_metal_py" / "__init__.py").read_text()
    line = next(line for line in text.splitlines() if line.startswith("__version__ = "))
    return line.split('"')[1]


def up_to_date(target: pathlib.Path) -> bool:
    """Whether `target` is newer than all that its .d file lists."""
    depends = target.with_suffix(".d")
    if not target.exists() or not depends.exists():
        return False
    listed = depends.read_text().replace("\\\n", " ").split(":", 1)[1].split()
    built = target.stat().st_mtime
    return all(pathlib.Path(p).exists() and pathlib.Path(p).stat().st_mtime < built for p in listed)


def compile_one(source: pathlib.Path, out: pathlib.Path, include: str) -> pathlib.Path:
    base = ROOT if source.is_relative_to(ROOT) and not source.is_relative_to(out) else out
    target = out / "objects" / source.relative_to(base).with_suffix(".o")
    if up_to_date(target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    run(
        zig(
            *COMPILE,
            *WARNINGS,
            "-ffp-contract=off",
            f'-DTFMETAL_VERSION="{version()}"',
            f"-I{ROOT}",
            "-isystem",
            include,
            *("-MMD", "-MF", str(target.with_suffix(".d"))),
            *("-c", str(source), "-o", str(target)),
        )
    )
    return target


def write_stubs(folder: pathlib.Path) -> list[str]:
    """Text-based stubs of Apple's libraries; returns the linker's flags."""
    flags = [f"-L{folder}", f"-F{folder}"]
    for name, (install_name, symbols) in STUBS.items():
        framework = not name.startswith("lib")
        place = folder / f"{name}.framework" if framework else folder
        place.mkdir(parents=True, exist_ok=True)
        listed = ", ".join(f"_{symbol}" for symbol in symbols.split())
        (place / f"{name}.tbd").write_text(
            "--- !tapi-tbd\ntbd-version: 4\ntargets: [ arm64-macos ]\n"
            f"install-name: '{install_name}'\n"
            f"exports:\n  - targets: [ arm64-macos ]\n    symbols: [ {listed} ]\n...\n"
        )
        flags += ["-framework", name] if framework else [f"-l{name.removeprefix('lib')}"]
    return flags


def symbols(dylib: pathlib.Path) -> tuple[set[str], set[str]]:
    """Names that a 64-bit Mach-O file exports and needs (LC_SYMTAB of <mach-o/loader.h>)."""
    data = dylib.read_bytes()
    (commands,) = struct.unpack_from("<I", data, 16)
    at, exported, needed = 32, set(), set()
    for _ in range(commands):
        kind, size = struct.unpack_from("<II", data, at)
        if kind == 0x2:  # LC_SYMTAB
            table, count, strings, _ = struct.unpack_from("<IIII", data, at + 8)
            for i in range(count):
                name, n_type, _, _, _ = struct.unpack_from("<IBBHQ", data, table + 16 * i)
                if n_type & 0xE0 or not n_type & 0x01 or n_type & 0x10:
                    continue  # debugging, local or private
                text = data[strings + name : data.index(b"\0", strings + name)].decode()
                (needed if n_type & 0x0E == 0 else exported).add(text.removeprefix("_"))
        at += size
    return exported, needed


def check(dylib: pathlib.Path) -> None:
    exported, needed = symbols(dylib)
    # zig's linker ignores the list of exports for libc++'s new and delete and its own two.
    harmless = ("_Zn", "_Zd", "__dso_handle", "_mh_dylib_header")
    surplus = {s for s in exported - ENTRY_POINTS if not s.startswith(harmless)}
    if surplus or not exported >= ENTRY_POINTS:
        raise SystemExit(f"exports {sorted(surplus)}, lacks {sorted(ENTRY_POINTS - exported)}")
    prefixes = ("TF_", "TP_", "Py", "_ZN10tensorflow", "_ZN4absl", "_ZN6google")
    if foreign := sorted(name for name in needed if name.startswith(prefixes)):
        raise SystemExit(f"needs {foreign}")
    print(f"{dylib}: {dylib.stat().st_size} bytes, {len(needed)} symbols needed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build-macos")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    begin = time.monotonic()
    installed = tf_headers.installed()
    if installed is None:
        raise SystemExit("TensorFlow is not installed beside this Python")
    files = [*sources(), *generate(out)]
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        jobs = [pool.submit(compile_one, f, out, str(installed / "include")) for f in files]
    if errors := [str(job.exception()) for job in jobs if job.exception()]:
        raise SystemExit("\n".join(errors))
    objects = [str(job.result()) for job in jobs]
    dylib = out / "libtensorflow_metal_py.dylib"
    exports = f"-Wl,-exported_symbols_list,{ROOT / 'plugin' / 'exports.macos'}"
    name = "-Wl,-install_name,@rpath/libtensorflow_metal_py.dylib"
    stubs = write_stubs(out / "stubs")
    run(zig("-shared", *objects, *stubs, exports, name, "-o", str(dylib)))
    check(dylib)
    print(f"{len(files)} sources for {TARGET} in {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()

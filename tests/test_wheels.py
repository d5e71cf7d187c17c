"""The wheels that `make wheel-macos wheel-linux` wrote into dist/ (make test-wheels runs this)."""

import base64
import csv
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests import macho
from tests.wheels import package_files

ROOT = macho.ROOT
CACHE = ROOT / ".cache" / "wheels"
LIBRARY = "tensorflow-plugins/libtensorflow_metal_py"
SHIMS = {  # platform -> minors of TensorFlow whose variable functions only a shim gives
    "macosx_14_0_arm64": ("2.20", "2.21"),
    "manylinux": ("2.19", "2.20", "2.21"),
}
FRAMEWORK = "libtensorflow_framework.2.dylib"
# What the plugin looks up in a shim.
LOADER = (ROOT / "plugin" / "variables" / "shim_loader.cc").read_text()
SHIM_EXPORTS = {*re.findall(r"X\((TF_\w+)\)", LOADER), "tfmetal_shim_tf_version"}

sys.path.insert(0, str(ROOT / "tools"))
import build_shim  # noqa: E402
import make_wheel  # noqa: E402
import tf_headers  # noqa: E402

pytestmark = [
    pytest.mark.wheels,
    pytest.mark.skipif(sys.platform != "linux", reason="both wheels are made on Linux"),
]


def find(platform: str) -> pathlib.Path:
    (wheel,) = (ROOT / "dist").glob(f"tensorflow_metal_py-*-py3-none-{platform}*.whl")
    return wheel


@pytest.fixture(scope="module")
def macos_wheel() -> pathlib.Path:
    return find("macosx_14_0_arm64")


@pytest.fixture(scope="module")
def unpacked(macos_wheel, tmp_path_factory) -> pathlib.Path:
    """As pip would on a Mac."""
    folder = tmp_path_factory.mktemp("mac")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
    platform = ["--platform", "macosx_14_0_arm64", "--only-binary", ":all:"]
    subprocess.run([*pip, *platform, macos_wheel], check=True)
    return folder


@pytest.mark.parametrize("platform", SHIMS)
def test_contents(platform):
    extension = "so" if platform == "manylinux" else "dylib"
    names = set(zipfile.ZipFile(find(platform)).namelist())
    assert {n for n in names if n.startswith("tensorflow-plugins/")} == {f"{LIBRARY}.{extension}"}
    shims = {n for n in names if "/_shims/" in n}
    folder = "tensorflow_metal_py/_shims"
    assert shims == {f"{folder}/libvariables-{minor}.{extension}" for minor in SHIMS[platform]}
    package = {n for n in names if n.startswith("tensorflow_metal_py/")} - shims
    assert package == package_files()


@pytest.mark.parametrize("platform", SHIMS)
def test_record(platform):
    """Sorted, complete and right; WHEEL says the tag of the file's name."""
    wheel = find(platform)
    archive = zipfile.ZipFile(wheel)
    (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/RECORD")]
    rows = list(csv.reader(archive.read(name).decode().splitlines()))
    assert [row[0] for row in rows] == archive.namelist()
    for path, digest, size in rows:
        if path != name:
            data = archive.read(path)
            found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert (digest, size) == (f"sha256={found}", str(len(data))), path
    text = archive.read(name.replace("RECORD", "WHEEL")).decode()
    tags = set(re.findall(r"^Tag: (\S+)", text, re.MULTILINE))
    assert tags == {wheel.stem.split("-", 2)[2]}
    assert "Root-Is-Purelib: false" in text


def test_macos_library_is_sound(unpacked):
    macho.assert_sound(unpacked / f"{LIBRARY}.dylib", macho.ENTRY_POINTS)


@pytest.mark.parametrize("minor", SHIMS["macosx_14_0_arm64"])
def test_macos_shim_fits_tensorflow(unpacked, minor):
    """Everything that it takes from TensorFlow is exported by that TensorFlow's library."""
    shim = unpacked / "tensorflow_metal_py" / "_shims" / f"libvariables-{minor}.dylib"
    fat, thin = macho.parse(shim)
    assert len(SHIM_EXPORTS) > 7
    macho.assert_sound(shim, SHIM_EXPORTS)
    assert [r.path for r in thin.rpaths] == ["@loader_path/../../tensorflow"]
    needed = macho.imports(thin)
    assert set(needed) == {f"@rpath/{FRAMEWORK}", macho.LIBSYSTEM}

    (release,) = [v for v in build_shim.RELEASES[".dylib"] if v.startswith(f"{minor}.")]
    wheel = build_shim.download(release, CACHE, "macosx_12_0_arm64")
    tensorflow = build_shim.of_wheel(wheel, CACHE)
    framework_fat, framework = macho.parse(tensorflow.framework)
    offered = {symbol.name for symbol in framework.exported_symbols}
    wanted = needed[f"@rpath/{FRAMEWORK}"]
    assert len(wanted) > 50
    assert not wanted - offered
    assert "_no_such_symbol" not in offered
    (own,) = [c for c in framework.commands if c.command.name == "ID_DYLIB"]
    assert own.name == f"@rpath/{FRAMEWORK}"
    assert release.encode() in shim.read_bytes()
    del fat, framework_fat


def test_linux_wheel_is_what_its_tag_says(tmp_path):
    """By auditwheel, and by the versions of glibc's symbols that objdump lists."""
    wheel = find("manylinux")
    tag = wheel.stem.rsplit("-", 1)[1]
    assert make_wheel.manylinux_tag(wheel) == tag
    promised = tuple(map(int, re.findall(r"manylinux_(\d+)_(\d+)_x86_64", tag)[0]))
    zipfile.ZipFile(wheel).extractall(tmp_path)
    libraries = list(tmp_path.rglob("*.so"))
    assert len(libraries) == 1 + len(SHIMS["manylinux"])
    for library in libraries:
        dump = subprocess.run(
            ["objdump", "-T", library], capture_output=True, text=True, check=True
        ).stdout
        versions = {tuple(map(int, v)) for v in re.findall(r"\(GLIBC_(\d+)\.(\d+)", dump)}
        assert versions and max(versions) <= promised, library.name


def test_no_path_of_this_machine():
    for platform in SHIMS:
        archive = zipfile.ZipFile(find(platform))
        for name in archive.namelist():
            data = archive.read(name)
            for folder in (ROOT, pathlib.Path(sys.prefix)):
                assert f"{folder}/".encode() not in data, name


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> pathlib.Path:
    """The same sources in another folder of another depth."""
    folder = tmp_path_factory.mktemp("reproducible") / "a" / "clone"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "wheels").symlink_to(CACHE)
    return folder


@pytest.mark.parametrize("platform, tag", [("macos", "macosx"), ("linux", "manylinux")])
def test_another_folder_gives_the_same_bytes(elsewhere, platform, tag):
    """Objects come from ccache where that knows them: this compares links, archives and metadata;
    the next test compiles."""
    bin_ = pathlib.Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}",
        "CCACHE_BASEDIR": str(elsewhere),
        "CCACHE_NOHASHDIR": "true",
        "CMAKE_CXX_COMPILER_LAUNCHER": str(bin_ / "ccache"),
    }
    command = [sys.executable, elsewhere / "tools" / "make_wheel.py", f"--platform={platform}"]
    subprocess.run(command, check=True, env=environment, cwd="/")
    (again,) = (elsewhere / "dist").glob(f"*-{tag}_*.whl")
    first = ROOT / "dist" / again.name
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(first).namelist()
    for name in zipfile.ZipFile(again).namelist():
        same = zipfile.ZipFile(again).read(name) == zipfile.ZipFile(first).read(name)
        assert same, f"{name} differs"
    assert again.read_bytes() == first.read_bytes()


# One with templates of libc++, one with strings, one with TensorFlow's headers.
SAMPLES = ("plugin/env.cc", "plugin/log.cc", "plugin/tf_api.cc")


@pytest.mark.parametrize("build", ["build-macos", "build-wheel"])
def test_another_folder_gives_the_same_objects(elsewhere, tmp_path, build):
    """With the very command of the build, but without ccache."""
    rows = json.loads((ROOT / build / "compile_commands.json").read_text())
    assert tf_headers.installed(), "both folders have TensorFlow's headers at the same place"
    for sample in SAMPLES:
        (row,) = [row for row in rows if row["file"] == str(ROOT / sample)]
        objects = []
        for folder in (ROOT, elsewhere):
            target = tmp_path / f"{len(objects)}.o"
            command = re.sub(r" -o \S+", f" -o {target}", row["command"])
            command = command.replace(str(ROOT), str(folder))
            command = command.replace(f"{folder}/{build}/zig-c++", f"{ROOT}/{build}/zig-c++")
            # The environment stays where it is, which may be in the clone.
            command = command.replace(sys.prefix.replace(str(ROOT), str(folder)), sys.prefix)
            environment = {**os.environ, "CCACHE_DISABLE": "1"}
            subprocess.run(command, shell=True, check=True, cwd=folder, env=environment)
            objects.append(target.read_bytes())
        assert objects[0] == objects[1], sample

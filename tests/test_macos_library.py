"""What `make cross-macos` links is what Apple's loader wants. Nothing here runs on a Mac: the load
commands, tables and signature are read (make cross-macos runs this)."""

import pathlib
import re
import sys

import pytest

from tests import macho

ROOT = macho.ROOT
LIBRARY = ROOT / "build-macos" / "libtensorflow_metal_py.dylib"

sys.path.insert(0, str(ROOT / "tools" / "macos"))
import seal  # noqa: E402

pytestmark = pytest.mark.macos


@pytest.fixture(scope="module")
def library():
    fat, thin = macho.parse(LIBRARY)
    yield thin
    del fat


def test_library_is_sound():
    macho.assert_sound(LIBRARY, macho.ENTRY_POINTS)


def test_needs_apples_libraries_only(library):
    needed = {lib.name for lib in library.libraries if lib.command.name == "LOAD_DYLIB"}
    assert needed == {macho.LIBSYSTEM, *macho.stubbed()}
    assert all(lib.command.name in ("LOAD_DYLIB", "ID_DYLIB") for lib in library.libraries)


def test_imports_nothing_of_tensorflow_or_python(library):
    found = macho.imports(library)
    assert set(found) <= {macho.LIBSYSTEM, *macho.stubbed()}, "a symbol that no library owns"
    assert {"_objc_getClass", "_objc_msgSend"} <= found["/usr/lib/libobjc.A.dylib"]
    names = set.union(*found.values())
    foreign = (
        "_TF_",
        "_TP_",
        "_SP_",
        "_SE_",
        "_Py",
        "__ZN10tensorflow",
        "__ZN4absl",
        "__ZN6google",
    )
    assert not [name for name in names if name.startswith(foreign)]
    assert not [name for name in names if name.startswith("__Z")], "libc++ is linked statically"


def test_holds_no_path_of_this_machine(library):
    """A path would make the bytes depend on the folder, and be of no use anywhere else."""
    data = LIBRARY.read_bytes()
    for folder in (ROOT, pathlib.Path(sys.prefix), pathlib.Path.home()):
        assert str(folder).encode() + b"/" not in data


@pytest.mark.parametrize("where", ["code", "last page", "load commands"])
def test_a_change_breaks_the_signature(where):
    """The check above can fail."""
    data = bytearray(LIBRARY.read_bytes())
    (start, _) = seal.Library(bytes(data)).command(seal.LC_CODE_SIGNATURE, "<II")
    at = {"code": start // 2, "last page": start - 1, "load commands": 40}[where]
    if where != "load commands":
        data[at] ^= 1
    else:
        data[24] ^= 1  # the header's flags
    wrong, _ = macho.wrong_pages(bytes(data))
    assert len(wrong) == 1
    again = seal.Library(bytes(data))
    again.sign()
    assert macho.wrong_pages(bytes(again.data))[0] == []


def test_sealing_again_changes_nothing(tmp_path):
    copy = tmp_path / LIBRARY.name
    copy.write_bytes(LIBRARY.read_bytes())
    seal.seal(copy, ROOT / "plugin" / "exports.macos")
    assert copy.read_bytes() == LIBRARY.read_bytes()


def test_sealing_refuses_what_is_not_there(tmp_path):
    copy, exports = tmp_path / LIBRARY.name, tmp_path / "exports"
    copy.write_bytes(LIBRARY.read_bytes())
    exports.write_text("_SE_InitPlugin\n_no_such_symbol\n")
    with pytest.raises(seal.SealError, match="exports nothing like _no_such_symbol"):
        seal.seal(copy, exports)
    assert copy.read_bytes() == LIBRARY.read_bytes()


def test_versions_agree():
    """pyproject.toml tells scikit-build-core what CMakeLists.txt reads from plugin/loading.cc."""
    text = (ROOT / "pyproject.toml").read_text()
    (version,) = re.findall(r'CMAKE_OSX_DEPLOYMENT_TARGET = "([\d.]+)"', text)
    assert [int(part) for part in version.split(".")] == macho.oldest_macos()

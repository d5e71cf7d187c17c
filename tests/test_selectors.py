"""Every Objective-C call of the wrappers, by a type checker that is not ours.

tools/check_selectors.py says how. Here: that all calls pass, that it sees each kind of mistake,
and that what is newer than the oldest macOS is asked for before it is sent.
"""

import dataclasses
import re
import sys

import pytest

from tests import test_fidelity
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import check_selectors  # noqa: E402


@pytest.fixture(scope="module")
def census():
    return check_selectors.census()


def _call(census, wrapper, **changes):
    """The call of a wrapper, changed."""
    call, *_ = [c for c in census[0] if c.wrapper == wrapper]
    return dataclasses.replace(call, **changes)


def test_all_calls_are_as_apple_declares_them(census, tmp_path):
    calls, enums = census
    assert not check_selectors.check(calls, enums, tmp_path)


def test_no_call_is_left_out(census):
    calls, enums = census
    selectors = {call.selector for call in calls}
    assert selectors >= set(test_fidelity._wrappers())
    text = "".join(path.read_text() for path in (ROOT / "plugin" / "metal").glob("*.h"))
    # Macros send for many methods; `make` of a class sends +alloc inside of another send.
    assert len(calls) > len(re.findall(r"OBJC_SEL\(", text)) > 100
    assert sum(len(values) for values in enums.values()) > 40
    assert set(re.findall(r"enum class (\w+)", text)) == {name.split("::")[1] for name in enums}


# Kind of mistake -> wrapper, what is changed, part of clang's message.
MISTAKES = {
    "float for double": (
        "mpsg::Graph::leaky_relu",
        {"arguments": ("mpsg::Tensor", "float", "ns::String")},
        "Value<float>",
    ),
    "another class": (
        "mpsg::Graph::leaky_relu",
        {"arguments": ("ns::Array", "double", "ns::String")},
        "Value<NSArray *>",
    ),
    "another enum of the same size": (
        "mpsg::Graph::cast",
        {"arguments": ("mpsg::Tensor", "unsigned int", "ns::String")},
        "Value<unsigned int>",
    ),
    "signed for unsigned": (
        "mpsg::Graph::gather_nd",
        {"arguments": ("mpsg::Tensor", "mpsg::Tensor", "long", "ns::String")},
        "Value<long>",
    ),
    "wrong result": ("mpsg::Tensor::data_type", {"result": "unsigned int"}, "take"),
    "result of another class": ("mpsg::Graph::split", {"result": "mpsg::Tensor"}, "take"),
    "misspelled": (
        "mpsg::Graph::exp",
        {"selector": "exponentialWithTensor:name:"},
        "exponentialWithTensor:name:",
    ),
    "of another class": ("mtl::Buffer::length", {"receiver": "mtl::Device"}, "length"),
    "instance method of the class": ("ns::String::str", {"is_class": True, "receiver": "NSString"},
                                     "UTF8String"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_seen(census, tmp_path, name):
    wrapper, changes, message = MISTAKES[name]
    errors = check_selectors.check([_call(census, wrapper, **changes)], {}, tmp_path)
    assert message in "\n".join(errors)


def test_ungated_call_is_seen(census, tmp_path, monkeypatch):
    monkeypatch.delitem(check_selectors.GATES, "mtl::CompileOptions::set_math_mode")
    errors = check_selectors.check(
        [_call(census, "mtl::CompileOptions::set_math_mode")], {}, tmp_path
    )
    assert "is only available on macOS 15.0 or newer" in "\n".join(errors)


def test_wrong_enumerator_is_seen(census, tmp_path):
    enums = {"mpsg::ScatterMode": {"Add": 0, "Set": 5}}
    errors = check_selectors.check([], enums, tmp_path)
    assert len(errors) == 1 and "mpsg::ScatterMode::Set" in errors[0]


@pytest.mark.parametrize("wrapper", check_selectors.GATES)
def test_gate(census, wrapper):
    """What is newer is sent only by the file named, which asks for the version."""
    gate = check_selectors.GATES[wrapper]
    call = _call(census, wrapper)
    record, method = wrapper.split("::")[-2:]
    if gate.file is None:
        assert call.selector not in test_fidelity._used()
        return
    send = rf"\b{record}::make\(" if method == "make" else rf"\.{method}\("
    senders = [
        path.relative_to(ROOT).as_posix()
        for folder in ("kernels", "plugin/device", "grappler")
        for path in (ROOT / folder).rglob("*.cc")
        if re.search(send, path.read_text())
    ]
    assert senders == [gate.file]
    version = gate.macos.replace(".", ", ")
    asks = f"macos_version() >= MacosVersion{{{version}}}"
    if gate.file.startswith("kernels/lowering/"):
        asks = f".first = {{{version}}}"  # of the op's row
    assert asks in (ROOT / gate.file).read_text()

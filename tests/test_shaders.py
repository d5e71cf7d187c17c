"""The shaders as far as they can be judged without Apple's compiler (tools/check_shaders.py).

Each rule is shown to refuse a shader that breaks it.
"""

import re
import sys

import pytest

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import check_shaders  # noqa: E402
import msl_to_cpp  # noqa: E402

FILES = sorted((ROOT / "kernels" / "msl").glob("*.metal"))

HEAD = "#include <metal_stdlib>\nusing namespace metal;\n"


def kernel(body, parameters="device float* x [[buffer(0)]], uint i [[thread_position_in_grid]]"):
    return f"{HEAD}kernel void k({parameters}) {{\n{body}\n}}\n"


GOOD = kernel("threadgroup float part[64];\npart[i] = x[i];\nx[i] = exp(part[i]) * 0.5f;")

# What the text shows: shader, part of the finding.
BAD_TEXT = {
    "double": (kernel("double y = x[i]; x[i] = float(y);"), "there is no double"),
    "literal": (kernel("x[i] *= 0.5;"), "literal without suffix"),
    "exponent": (kernel("x[i] *= 1e-5;"), "literal without suffix"),
    "static": (kernel("static int calls = 0; x[i] = ++calls;"), "no static variables"),
    "virtual": (HEAD + "struct S { virtual float f(); };", "no virtual functions"),
    "throw": (kernel("if (i > 3) throw 1;"), "no exceptions"),
    "new": (kernel("thread float* p = new float; x[i] = *p;"), "no allocation"),
    "std": (kernel("x[i] = std::exp(x[i]);"), "std::"),
    "lambda": (kernel("auto f = [&](float v) { return v; }; x[i] = f(x[i]);"), "no lambdas"),
    "atomic64": (kernel("", "device atomic_ulong* x [[buffer(0)]]"), "no atomics of 64 bits"),
    "atomic_float": (kernel("", "device atomic_float* x [[buffer(0)]]"), "not deterministic"),
    "fast": (kernel("x[i] = fast::exp(x[i]);"), "no fast math"),
    "header": ("#include <cmath>\n", "only Metal's own headers"),
    "pointer": (kernel("thread float v = 1; float* p = &v; x[i] = *p;"), "no address space"),
    "reference": (HEAD + "inline void f(float& v) { v = 1; }", "no address space"),
    "program scope": (HEAD + "float table[3] = {1, 2, 3};", "must be constant"),
    "attribute": (kernel("", "device float* x [[buffer(0)]], uint i"), "without attribute"),
    "unknown attribute": (
        kernel("", "device float* x [[buffer(0)]], uint i [[thread_position]]"),
        "unknown attribute [[thread_position]]",
    ),
    "attribute's type": (
        kernel("", "device float* x [[buffer(0)]], float i [[thread_position_in_grid]]"),
        "of type float",
    ),
    "buffer twice": (
        kernel("", "device float* x [[buffer(0)]], device float* y [[buffer(0)]]"),
        "buffer(0) twice",
    ),
    "buffer's index": (kernel("", "device float* x [[buffer(31)]]"), "buffer(31): at most 31"),
    "buffer's space": (kernel("", "thread float* x [[buffer(0)]]"), "is not in"),
    "threadgroup's space": (kernel("", "device float* x [[threadgroup(0)]]"), "is not in"),
}
# What clang finds when it compiles for the language's standard.
BAD_DIALECT = {
    "if constexpr": (kernel("if constexpr (sizeof(int) == 4) x[i] = 1;"), "C++17"),
    "bindings": (kernel("float2 v = float2(1, 2); auto [a, b] = v; x[i] = a;"), "C++17"),
    "concept": (
        HEAD + "template <class T> requires true inline T f(T v) { return v; }",
        "requires",
    ),
    "swizzle of nothing": (kernel("float2 v = float2(1, 2); x[i] = v.z;"), "component"),
    "unknown function": (kernel("x[i] = hypot(x[i], 1.0f);"), "hypot"),
    "recursion": (
        HEAD
        + "inline uint f(uint n) { return n < 2 ? n : f(n - 1); }\n"
        + "kernel void k(device uint* x [[buffer(0)]]) { x[0] = f(x[1]); }\n",
        "recursive",
    ),
    "recursion by two": (
        HEAD
        + "uint g(uint n);\ninline uint f(uint n) { return g(n); }\n"
        + "uint g(uint n) { return n < 2 ? n : f(n - 1); }\n"
        + "kernel void k(device uint* x [[buffer(0)]]) { x[0] = f(x[1]); }\n",
        "recursive",
    ),
}
# What it finds once pointers know where they point.
BAD_ADDRESS_SPACE = {
    "device is not thread": (kernel("thread float* p = x; *p = 1;"), "device float *"),
    "threadgroup is not device": (
        kernel("threadgroup float part[4]; device float* p = part; *p = 1;"),
        "threadgroup float",
    ),
    "argument": (
        HEAD
        + "inline float first(threadgroup const float* p) { return p[0]; }\n"
        + "kernel void k(device float* x [[buffer(0)]]) { x[1] = first(x); }\n",
        "no matching function",
    ),
    "constant is written": (
        kernel("c = 1.0f; x[i] = c;", "device float* x [[buffer(0)]], constant float& c "
               "[[buffer(1)]], uint i [[thread_position_in_grid]]"),
        "const",
    ),
    "threadgroup memory": (
        kernel("threadgroup float a[8000]; threadgroup float b[200]; a[i] = b[i] = x[i];"),
        "more threadgroup memory than there is",
    ),
    "a choice between spaces": (
        HEAD
        + "struct Pair { float a, b; };\nkernel void k(device Pair* x [[buffer(0)]]) {\n"
        + "Pair mine; mine.a = 1; x[0] = x[1].a > 0 ? x[1] : mine;\n}\n",
        "incompatible operand types",
    ),
}  # fmt: skip


def _file(tmp_path, source):
    path = tmp_path / "planted.metal"
    path.write_text(source)
    return path


def test_good_shader_passes(tmp_path):
    path = _file(tmp_path, GOOD)
    assert not check_shaders.lint(GOOD, "planted")
    for check in (check_shaders.dialect, check_shaders.address_spaces, check_shaders.host):
        assert not check([path]), check.__name__


@pytest.mark.parametrize("name", BAD_TEXT)
def test_text_is_refused(name):
    source, expected = BAD_TEXT[name]
    assert expected in "\n".join(check_shaders.lint(source, "planted"))


@pytest.mark.parametrize("name", BAD_DIALECT)
def test_dialect_is_refused(name, tmp_path):
    source, expected = BAD_DIALECT[name]
    assert expected in "\n".join(check_shaders.dialect([_file(tmp_path, source)]))


@pytest.mark.parametrize("name", BAD_ADDRESS_SPACE)
def test_address_space_is_refused(name, tmp_path):
    source, expected = BAD_ADDRESS_SPACE[name]
    path = _file(tmp_path, source)
    assert expected in "\n".join(check_shaders.address_spaces([path]))


def test_shaders_pass_the_rules_of_text():
    headers = sorted((ROOT / "kernels" / "msl").glob("*.h"))
    found = [
        line for path in [*FILES, *headers] for line in check_shaders.lint(path.read_text(), path)
    ]
    assert not found


@pytest.mark.parametrize("check", ["dialect", "address_spaces", "host"])
def test_shaders_pass_clang(check):
    """All in one source, as a Mac compiles them."""
    assert len(FILES) > 30
    assert not getattr(check_shaders, check)(FILES)


def test_shaders_that_synchronise_are_run_by_themselves():
    """For the race detector: see tests/cc/test_shader_races.cc."""
    text = (ROOT / "tests" / "cc" / "test_shader_races.cc").read_text()
    names = [n for f in FILES for n in msl_to_cpp.synchronising_kernels(f.read_text())]
    stems = {re.sub(r"_(?:float2?|half|bfloat)$", "", name) for name in names}
    assert len(stems) > 5
    # A test of the kernel's name goes through its types.
    assert not [stem for stem in stems if f"TEST({stem})" not in text]


def test_a_message_tells_file_and_line(tmp_path):
    path = _file(tmp_path, kernel("x[i] = 1;\nx[i] = oops;"))
    (error,) = check_shaders.dialect([path])
    assert error.startswith(f"{path}:5:")

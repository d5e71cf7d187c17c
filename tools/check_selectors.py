#!/usr/bin/env python3
"""Holds every Objective-C call of plugin/metal to Apple's API, by clang's own type checker.

The host checks a call when it runs. This checks all of them, run or not, another way: clang tells
what the wrappers send (class, selector, C++ types); an Objective-C header of the catalogue says
what Apple declares; and an Objective-C++ file that makes each call with values of exactly the
wrappers' types must compile for arm64 macOS, with ARC, without a warning. What is newer than the
oldest macOS stands behind @available there, so it has to be listed in GATES.

    tools/check_selectors.py [--out FOLDER]     writes apple_api.h and calls.mm to look at
"""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
import re
import subprocess
import sys
import tempfile

from absl import app, flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
CATALOGUE = ROOT / "plugin" / "host" / "catalogue" / "apple_api.tsv"
WRAPPERS = "plugin/metal/mps_graph.h"  # includes the others
OLDEST = (14, 0)


@dataclasses.dataclass(frozen=True)
class Gate:
    macos: str  # the first that has it
    file: str | None  # asks for that version before it sends; None: nothing sends it


# Wrappers of what is newer than that.
GATES = {
    "mtl::CompileOptions::set_math_mode": Gate("15.0", "plugin/device/shader_library.cc"),
    "mps::NDArrayDescriptor::set_prefer_packed_rows": Gate("15.0", "kernels/tensor_data.cc"),
    "mps::NDArray::make": Gate("15.0", "kernels/tensor_data.cc"),
    "mpsg::Graph::attention": Gate("15.0", "kernels/lowering/attention.cc"),
    "mpsg::Graph::reciprocal_square_root": Gate("15.0", None),
    "mpsg::Graph::slice_update": Gate("15.0", None),
}

# The wrappers' types -> Apple's.
_TYPES = {
    "ns::String": "NSString *",
    "ns::Number": "NSNumber *",
    "ns::Array": "NSArray *",
    "ns::Dictionary": "NSDictionary *",
    "ns::Data": "NSData *",
    "ns::URL": "NSURL *",
    "ns::Error": "NSError *",
    "ns::Range": "NSRange",
    "mtl::Size": "MTLSize",
    "mtl::ResourceOptions": "MTLResourceOptions",
    "mtl::MathMode": "MTLMathMode",
    "mtl::CommandBufferStatus": "MTLCommandBufferStatus",
    "mtl::Buffer": "id<MTLBuffer>",
    "mtl::SharedEvent": "id<MTLSharedEvent>",
    "mtl::Function": "id<MTLFunction>",
    "mtl::ComputePipelineState": "id<MTLComputePipelineState>",
    "mtl::Library": "id<MTLLibrary>",
    "mtl::CompileOptions": "MTLCompileOptions *",
    "mtl::BlitCommandEncoder": "id<MTLBlitCommandEncoder>",
    "mtl::ComputeCommandEncoder": "id<MTLComputeCommandEncoder>",
    "mtl::CommandBuffer": "id<MTLCommandBuffer>",
    "mtl::CommandQueue": "id<MTLCommandQueue>",
    "mtl::Device": "id<MTLDevice>",
    "mps::DataType": "MPSDataType",
    "mps::CommandBuffer": "MPSCommandBuffer *",
    "mps::NDArrayDescriptor": "MPSNDArrayDescriptor *",
    "mps::NDArray": "MPSNDArray *",
    "mps::MatrixDescriptor": "MPSMatrixDescriptor *",
    "mps::Matrix": "MPSMatrix *",
    "mps::MatrixMultiplication": "MPSMatrixMultiplication *",
    "mpsg::Layout": "MPSGraphTensorNamedDataLayout",
    "mpsg::PaddingStyle": "MPSGraphPaddingStyle",
    "mpsg::PaddingMode": "MPSGraphPaddingMode",
    "mpsg::ScatterMode": "MPSGraphScatterMode",
    "mpsg::Optimization": "MPSGraphOptimization",
    "mpsg::Tensor": "MPSGraphTensor *",
    "mpsg::ShapedType": "MPSGraphShapedType *",
    "mpsg::TensorData": "MPSGraphTensorData *",
    "mpsg::CompilationDescriptor": "MPSGraphCompilationDescriptor *",
    "mpsg::Executable": "MPSGraphExecutable *",
    "mpsg::Graph": "MPSGraph *",
    "mpsg::Convolution2D": "MPSGraphConvolution2DOpDescriptor *",
    "mpsg::Depthwise2D": "MPSGraphDepthwiseConvolution2DOpDescriptor *",
    "mpsg::Convolution3D": "MPSGraphConvolution3DOpDescriptor *",
    "objc::Block<void (objc_object *)>": "MTLCommandBufferHandler",
    "bool": "BOOL",
    "SEL": "SEL",
}
# Wrappers' names of enumerators that differ from Apple's by more than the enum's name.
_RENAMED = {
    "StorageModeShared": "MTLResourceStorageModeShared",
    "TFValid": "MPSGraphPaddingStyleTF_VALID",
    "TFSame": "MPSGraphPaddingStyleTF_SAME",
}


class SelectorError(Exception):
    pass


@dataclasses.dataclass(frozen=True)
class Call:
    """A message as a wrapper sends it; types are those of C++."""

    wrapper: str  # mpsg::Graph::softmax
    receiver: str  # the class of an instance, or its name when is_class
    is_class: bool
    selector: str
    result: str
    arguments: tuple[str, ...]


# ---- what the wrappers send ----------------------------------------------------------------------


def _ziglang(*arguments: str, text: str | None = None, check: bool = True):
    command = [sys.executable, "-m", "ziglang", *arguments]
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if check and result.returncode:
        raise SelectorError(result.stderr)
    return result


def _documents(text: str):
    decoder, position = json.JSONDecoder(), 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        document, position = decoder.raw_decode(text, position)
        yield document


def _nodes(node: dict, kind: str):
    """The nodes of a kind, outermost first."""
    for child in node.get("inner", []):
        if child.get("kind") == kind:
            yield child
        yield from _nodes(child, kind)


def _split(text: str) -> list[str]:
    parts, depth = [""], 0
    for c in text:
        depth += (c in "(<") - (c in ")>")
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [part.strip() for part in parts]


def _literal(node: dict) -> str:
    return json.loads(next(_nodes(node, "StringLiteral"))["value"])


def _passed(reference: str) -> str:
    """The type of a value of which send() takes a `const T &`."""
    value = reference.removesuffix("&").strip()
    if value.endswith("*const") or value.endswith("*"):
        value = value.removesuffix("const")
    else:
        value = value.removeprefix("const ")
    return "id" if value == "objc_object *" else value.strip()


def _receiver(node: dict, own: str) -> tuple[str, bool]:
    """Class and whether the class itself receives, of the first argument of a send."""
    calls = list(_nodes({"inner": [node]}, "DeclRefExpr"))
    names = {call.get("referencedDecl", {}).get("name") for call in calls}
    if "objc_getClass" not in names:
        return own, False
    # Otherwise the class; or what +alloc answers, inside of an initializer's send.
    literals = [json.loads(s["value"]) for s in _nodes({"inner": [node]}, "StringLiteral")]
    return literals[0], "send" not in names


def _calls_of(record: dict, space: str):
    own = f"{space}::{record['name']}"
    methods = [m for m in record.get("inner", []) if m.get("kind") == "CXXMethodDecl"]
    for method in methods:
        for call in _nodes(method, "CallExpr"):
            callee = next(_nodes({"inner": call["inner"][:1]}, "DeclRefExpr"), {})
            name = callee.get("referencedDecl", {})
            if name.get("name") != "send":
                continue
            _, receiver, selector, *_ = call["inner"]
            result, arguments = re.match(r"(.*?) ?\((.*)\)$", name["type"]["qualType"]).groups()
            types = [_passed(a) for a in _split(arguments)[2:]]
            target, is_class = _receiver(receiver, own)
            yield Call(
                f"{own}::{method['name']}", target, is_class, _literal(selector), _passed(result),
                tuple(types),
            )  # fmt: skip


def census() -> tuple[list[Call], dict[str, dict[str, int]]]:
    """All sends of the wrappers, and the enums that they declare with their values."""
    mac = ("-std=c++20", "-w")
    flags = ("c++", "-target", "aarch64-macos.14.0", *mac, "-E", "-x", "c++", f"-I{ROOT}")
    text = _ziglang(*flags, str(ROOT / WRAPPERS)).stdout
    calls, enums = [], {}
    for space in ("ns", "mtl", "mps", "mpsg"):
        dump = ("-Xclang", "-ast-dump=json", "-Xclang", f"-ast-dump-filter={space}::")
        target = ("clang", "-target", "aarch64-apple-macos14.0", *mac)
        ast = _ziglang(*target, "-x", "c++-cpp-output", "-fsyntax-only", *dump, "-", text=text)
        for node in _documents(ast.stdout):
            name = f"{space}::{node.get('name')}"
            if node["kind"] == "CXXRecordDecl" and name in _TYPES:
                calls += _calls_of(node, space)
            elif node["kind"] == "EnumDecl" and name in _TYPES:
                enums[name] = {
                    c["name"]: int(next(_nodes(c, "ConstantExpr"))["value"])
                    for c in _nodes(node, "EnumConstantDecl")
                }
    return list(dict.fromkeys(calls)), enums


# ---- Apple's API as a header ---------------------------------------------------------------------

_PRELUDE = """// Generated by tools/check_selectors.py from the catalogue.
#pragma clang diagnostic ignored "-Wobjc-property-no-attribute"
typedef signed char int8_t; typedef unsigned char uint8_t; typedef short int16_t;
typedef unsigned short uint16_t; typedef int int32_t; typedef unsigned int uint32_t;
typedef long long int64_t; typedef unsigned long long uint64_t; typedef unsigned long size_t;
typedef long NSInteger; typedef unsigned long NSUInteger; typedef bool BOOL;
typedef double CFTimeInterval; typedef double NSTimeInterval; typedef unsigned short unichar;
typedef uint64_t MTLGPUAddress; typedef uint64_t MTLTimestamp; typedef SEL Sel;
typedef NSUInteger NSStringEncoding; typedef NSInteger NSComparisonResult;
typedef NSUInteger NSStringCompareOptions;
struct NSRange { NSUInteger location, length; };
struct MTLOrigin { NSUInteger x, y, z; };
struct MTLSize { NSUInteger width, height, depth; };
struct MTLRegion { MTLOrigin origin; MTLSize size; };
struct MTLSizeAndAlign { NSUInteger size, align; };
struct MPSDimensionSlice { NSUInteger start, length; };
struct NSOperatingSystemVersion { NSInteger majorVersion, minorVersion, patchVersion; };
"""
# Apple's names of collections.
_ALIASES = {
    "MPSShape": "NSArray",
    "MPSGraphTensorDataDictionary": "NSDictionary",
    "MPSGraphTensorShapedTypeDictionary": "NSDictionary",
}
_WORDS = frozenset(
    "id instancetype void const char unsigned signed short int long float double Class "
    "BOOL SEL enum".split()
)


@dataclasses.dataclass
class Catalogue:
    """apple_api.tsv by kind of row."""

    methods: dict[str, list[tuple[str, str, str, list[str]]]]  # class: sign, selector, macOS, types
    parents: dict[str, list[str]]
    protocols: set[str]
    meanings: dict[str, str]
    values: dict[str, dict[str, int]]

    def mentioned(self) -> set[str]:
        types = [t for rows in self.methods.values() for row in rows for t in row[3]]
        return set(re.findall(r"[A-Za-z_]\w*", " ".join([*types, *self.meanings.values()])))


def read_catalogue() -> Catalogue:
    c = Catalogue(collections.defaultdict(list), collections.defaultdict(list), set(), {}, {})
    for line in CATALOGUE.read_text(encoding="utf-8").splitlines():
        name, kind, *rest = line.split("\t")
        if kind in "+-":
            selector, _, macos, types = rest
            c.methods[name].append((kind, selector, macos, types.split("|")))
        elif kind == ":":
            c.parents[name].append(rest[0])
        elif kind == "@":
            c.protocols.add(name)
        elif kind == "=":
            c.meanings[name] = rest[0]
        else:
            c.values.setdefault(name, {})[rest[0]] = int(rest[1])
    return c


def _method(sign: str, selector: str, macos: str, types: list[str]) -> str:
    parts = selector.split(":")
    if len(types) == 1:
        words = parts[0]
    else:
        words = " ".join(
            f"{part}:({type_name})a{i}"
            for i, (part, type_name) in enumerate(zip(parts, types[1:], strict=False))
        )
    since = f"__attribute__((availability(macos, introduced={macos})))"
    return f"{sign} ({types[0]}){words} {since};"


def _interface(name: str, c: Catalogue) -> str:
    parents = c.parents.get(name, [])
    adopted = ", ".join(p for p in parents if p in c.protocols)
    adopted = f" <{adopted}>" if adopted else ""
    classes = [p for p in parents if p not in c.protocols]
    body = "\n".join(_method(*row) for row in c.methods.get(name, []))
    if name in c.protocols:
        return f"@protocol {name}{adopted}\n{body}\n@end\n"
    super_class = f" : {classes[0]}" if classes else ""
    root = "" if classes else "__attribute__((objc_root_class))\n"
    return f"{root}@interface {name}{super_class}{adopted}\n{body}\n@end\n"


def header(c: Catalogue) -> str:
    """An Objective-C header of all that the catalogue lists."""
    defined = set(c.methods) | set(c.parents)
    known = defined | set(c.meanings) | _WORDS | set(_ALIASES)
    known |= set(re.findall(r"(?:struct|typedef [\w ]*?) ?(\w+)(?: \{|;)", _PRELUDE))
    types = " ".join(t for rows in c.methods.values() for row in rows for t in row[3])
    protocols = set(re.findall(r"id<(\w+)>", types)) | c.protocols
    lines = [_PRELUDE]
    lines += [f"@protocol {p};" for p in sorted(protocols)]
    classes = (c.mentioned() | defined) - (known - defined) - protocols
    lines += [f"@class {name};" for name in sorted(classes)]
    lines += [f"typedef {of} {name};" for name, of in sorted(_ALIASES.items())]
    for name, meaning in sorted(c.meanings.items()):
        if meaning.startswith("enum "):
            values = ", ".join(f"{k} = {v}" for k, v in sorted(c.values.get(name, {}).items()))
            lines.append(f"enum {name} : {meaning.removeprefix('enum ')} {{ {values} }};")
    for name, meaning in sorted(c.meanings.items()):
        if "(^)" in meaning:
            lines.append(f"typedef {meaning.replace('(^)', f'(^{name})')};")
    done: set[str] = set()

    def define(name: str) -> None:
        if name in done:
            return
        done.add(name)
        for parent in c.parents.get(name, []):
            define(parent)
        lines.append(_interface(name, c))

    for name in sorted(defined):
        define(name)
    return "\n".join(lines)


# ---- the calls -----------------------------------------------------------------------------------

_CALLS_PRELUDE = """// Generated by tools/check_selectors.py: each call of the wrappers.
#include "apple_api.h"
template <class T>
inline constexpr bool kObject = __is_convertible(T, id);
template <class T>
struct Value {  // converts to T, an object also to its superclasses and protocols
  template <class U>
    requires(__is_same(U, T) || (kObject<T> && kObject<U> && __is_convertible(T, U)))
  operator U() const;
};
template <class T>
T object();
template <class T, class U>
  requires(__is_same(U, T) || (kObject<T> && kObject<U> && __is_convertible(U, T)))
void take(U);
struct Pointer {  // to memory of any type
  template <class U>
  operator U *() const;
};
"""


def _apple_type(cpp: str) -> str:
    return _TYPES.get(cpp, cpp)


def _value(cpp: str) -> str:
    if cpp == "objc::Object":
        return "nullptr"
    if cpp in ("objc_object **", "void *", "const void *"):
        return "Pointer()"
    return f"Value<{_apple_type(cpp)}>()"


def _message(call: Call) -> str:
    parts = call.selector.split(":")
    if len(parts) - 1 != len(call.arguments):
        raise SelectorError(f"{call.wrapper}: {call.selector} with {len(call.arguments)} arguments")
    words = (
        " ".join(
            f"{part}:{_value(argument)}"
            for part, argument in zip(parts, call.arguments, strict=False)
        )
        or call.selector
    )
    if call.is_class:
        return f"[{call.receiver} {words}]"
    if "::" in call.receiver:
        return f"[object<{_apple_type(call.receiver)}>() {words}]"
    return f"[[{call.receiver} alloc] {words}]"


def program(calls: list[Call], enums: dict[str, dict[str, int]]) -> str:
    """An Objective-C++ file that makes all calls."""
    lines = [_CALLS_PRELUDE]
    for number, call in enumerate(calls):
        message = _message(call)
        gate = GATES.get(call.wrapper)
        guard = f"if (@available(macOS {gate.macos}, *)) " if gate else ""
        body = message if call.result == "void" else f"take<{_apple_type(call.result)}>({message})"
        lines.append(f'#line {number + 1} "{call.wrapper}"')
        lines.append(f"void call_{number}() {{ {guard}{{ {body}; }} }}")
    lines.append('#line 1 "enums"')
    for name, values in enums.items():
        enum = _TYPES[name]
        for key, value in values.items():
            apple = _RENAMED.get(key, enum + key)
            lines.append(f'static_assert({apple} == {value}, "{name}::{key}");')
    return "\n".join(lines)


def check(calls: list[Call], enums: dict[str, dict[str, int]], folder: pathlib.Path) -> list[str]:
    """Writes apple_api.h and calls.mm into a folder; returns what is wrong, a line each."""
    catalogue = read_catalogue()
    (folder / "apple_api.h").write_text(header(catalogue), encoding="utf-8")
    (folder / "calls.mm").write_text(program(calls, enums), encoding="utf-8")
    oldest = ".".join(map(str, OLDEST))
    result = _ziglang(
        "clang", "-target", f"aarch64-apple-macos{oldest}", "-x", "objective-c++", "-std=c++20",
        "-fobjc-arc", "-fblocks", "-fsyntax-only", "-nostdinc", "-ferror-limit=100", "-Wall",
        "-Wno-availability", "-Wunguarded-availability", "-Wno-unused-value", "-Werror",
        str(folder / "calls.mm"), check=False,
    )  # fmt: skip
    errors = [line for line in result.stderr.splitlines() if ": error:" in line]
    return errors or ([result.stderr] if result.returncode else [])


def define_flags() -> None:
    """Not on import: tests import several tools, each with its own --out."""
    flags.DEFINE_string("out", None, "Folder for the generated files; none keeps them.")


def main(argv: list[str]) -> None:
    del argv
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(flags.FLAGS.out or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = check(*census(), folder)
    print("\n".join(found) or "every call is as Apple declares it")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    define_flags()
    app.run(main)

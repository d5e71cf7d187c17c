#!/usr/bin/env python3
"""Writes plugin/host/catalogue/apple_api.tsv: the part of Apple's API that host builds check.

Input is a JSON file with one row per Objective-C method (`api`: class, selector, kind, types, first
macOS) and the underlying types of enums (`enums`). Output rows, tab separated:

    class  +|-  selector  encoding  first macOS  types    a method; encoding as objc::signature
                                          writes it, types as declared: result|argument|...
    class  :    parent                    a superclass or an adopted protocol
    class  @                              a protocol
    type   =    meaning                   an enum or block of those methods
    enum   #    name      value           what the enum lists
"""

from __future__ import annotations

import json
import re

from absl import app, flags

_API = flags.DEFINE_string("api", None, "JSON file that describes Apple's API.", required=True)
_OUT = flags.DEFINE_string(
    "out", "plugin/host/catalogue/apple_api.tsv", "Where to write the catalogue."
)

# Frameworks whose classes are all taken, then single classes.
_PREFIXES = ("MPSGraph", "MPSNDArray", "MPSCommandBuffer", "MPSKernel", "MPSState")
_CLASSES = frozenset(
    """
    NSObject NSArray NSMutableArray NSAutoreleasePool NSData NSDictionary NSMutableDictionary
    NSError NSNumber NSValue NSProcessInfo NSSet NSString NSURL
    MTLAllocation MTLArchitecture MTLBinaryArchive MTLBinaryArchiveDescriptor MTLBlitCommandEncoder
    MTLBuffer MTLCaptureDescriptor MTLCaptureManager MTLCommandBuffer MTLCommandBufferDescriptor
    MTLCommandBufferEncoderInfo MTLCommandEncoder MTLCommandQueue MTLCommandQueueDescriptor
    MTLCompileOptions MTLComputeCommandEncoder MTLComputePipelineDescriptor MTLComputePipelineState
    MTLDevice MTLEvent MTLFence MTLFunction MTLFunctionConstantValues MTLHeap MTLHeapDescriptor
    MTLLibrary MTLResidencySet MTLResidencySetDescriptor MTLResource MTLSharedEvent
    MTLSharedEventListener MPSTemporaryNDArray MPSMatrix MPSMatrixDescriptor
    MPSMatrixMultiplication
    """.split()
)

_PARENTS = {
    "MPSCommandBuffer": ["NSObject", "MTLCommandBuffer"],
    "MPSTemporaryNDArray": ["MPSNDArray"],
    "MTLBlitCommandEncoder": ["MTLCommandEncoder"],
    "MTLBuffer": ["MTLResource"],
    "MTLComputeCommandEncoder": ["MTLCommandEncoder"],
    "MTLComputePipelineState": ["MTLAllocation"],
    "MTLHeap": ["MTLAllocation"],
    "MTLResource": ["MTLAllocation"],
    "MTLSharedEvent": ["MTLEvent"],
    "NSMutableArray": ["NSArray"],
    "NSMutableDictionary": ["NSDictionary"],
    "NSNumber": ["NSValue"],
    "MPSGraphShapedType": ["MPSGraphType"],
    "MPSGraphVariableOp": ["MPSGraphOperation"],
    "MPSGraphObject": ["NSObject"],
    "MPSMatrixMultiplication": ["MPSKernel"],
    "MPSNDArrayMultiaryBase": ["MPSKernel"],
    "MPSNDArrayMultiaryKernel": ["MPSNDArrayMultiaryBase"],
    "MPSNDArrayUnaryKernel": ["MPSNDArrayMultiaryBase"],
    "MPSNDArrayBinaryKernel": ["MPSNDArrayMultiaryBase"],
    "MPSNDArrayMatrixMultiplication": ["MPSNDArrayMultiaryKernel"],
}

_SCALARS = {
    "void": "v", "BOOL": "B", "float": "f", "double": "d", "CFTimeInterval": "d",
    "NSTimeInterval": "d", "char": "c", "unsigned char": "C", "uint8_t": "C", "short": "s",
    "unsigned short": "S", "int": "i", "int32_t": "i", "unsigned int": "I", "uint32_t": "I",
    "long": "q", "NSInteger": "q", "int64_t": "q", "long long": "q", "unsigned long": "Q",
    "NSUInteger": "Q", "uint64_t": "Q", "size_t": "Q", "unsigned long long": "Q",
    "MTLGPUAddress": "Q", "MTLTimestamp": "Q", "Sel": ":", "SEL": ":", "NSStringEncoding": "Q",
    "NSComparisonResult": "q", "NSStringCompareOptions": "Q",
}  # fmt: skip

_STRUCTS = {
    "MTLOrigin": "{?=QQQ}",
    "MTLSize": "{?=QQQ}",
    "MTLRegion": "{?={?=QQQ}{?=QQQ}}",
    "MTLSizeAndAlign": "{?=QQ}",
    "NSRange": "{_NSRange=QQ}",
    "MPSDimensionSlice": "{?=QQ}",
    "NSOperatingSystemVersion": "{?=qqq}",
}


def _encode(text: str, enums: dict[str, str]) -> str | None:
    """The encoding of an Objective-C type, None when it is not known."""
    if re.match(r"Option\b", text):  # a type that the source could not tell
        return None
    if text in enums:
        text = enums[text]
    if text in _SCALARS:
        return _SCALARS[text]
    if text in _STRUCTS:
        return _STRUCTS[text]
    if text in ("const char *", "char *"):
        return "*"
    if "(^)" in text or text.endswith(("Handler", "Block")):
        return "@"
    if text in ("id", "instancetype", "Class") or re.fullmatch(r"id<[\w, ]+>", text):
        return "@"
    if text.endswith(("**", "* *")) or text.startswith(("const id", "void *", "const void *")):
        return "^v"
    if re.fullmatch(r"id(<\w+>)? \*", text):
        return "^v"
    if re.fullmatch(r"(const )?[a-zA-Z]\w* \*", text):
        base = text.removeprefix("const ")[:-2]
        return "^v" if base in _SCALARS or base in _STRUCTS or base in enums else "@"
    if re.fullmatch(r"[A-Z]\w+(<.*>)? \*", text):
        return "@"
    return None


def _first_macos(row: dict) -> str | None:
    """The first macOS with this method as the catalogue writes it; None when macOS lacks it."""
    text = row["min_macos"]
    if text == "NO":
        return None
    if text is not None:
        return text.removeprefix("<=")
    # Foundation is older than any macOS of interest and constructors are as old as their class;
    # what else has no mark came after the sources of the marks were made.
    old = row["framework"] == "Foundation" or row["selector"] in ("init", "new")
    old = old or row["inherited_redeclaration"]
    return "12.0" if old else "26.0"


def _meaning(name: str, data: dict, enums: dict[str, str]) -> str | None:
    """What a named type of the rows is; None for classes and what C knows."""
    if name in enums:
        return f"enum {enums[name]}"
    return data["block_types"].get(name)


def _declared(text: str) -> str:
    """A type as declared, without nullability and the types of elements."""
    text = re.sub(r"\s*_Nullable", "", text).strip()
    text = re.sub(r"\bBool\b", "BOOL", text)
    return re.sub(r"(?<!\bid)<[^<>]*(?:<[^<>]*>[^<>]*)*>", "", text)


def _wanted(name: str) -> bool:
    return name in _CLASSES or name.startswith(_PREFIXES)


def main(argv: list[str]) -> None:
    del argv
    with open(_API.value, encoding="utf-8") as file:
        data = json.load(file)
    enums = {e["enum"]: e["underlying"] for e in data["enums"]}
    rows, classes, names, unknown = set(), set(), set(), set()
    for row in data["api"]:
        name, macos = row["class"], _first_macos(row)
        if not _wanted(name) or macos is None:
            continue
        classes.add(name)
        declared = [_declared(t) for t in [row["return_type"], *row["arg_types"]]]
        types = [_encode(t, enums) for t in declared]
        if None in types or len(types) - 1 != row["selector"].count(":"):
            unknown.add(f"{name} {row['selector']}")
            continue
        encoding = types[0] + "@:" + "".join(types[1:])
        sign = "+" if row["kind"] == "class" else "-"
        rows.add((name, sign, row["selector"], encoding, macos, "|".join(declared)))
        names.update(re.findall(r"\w+", " ".join(declared)))
        if row["is_protocol"]:
            rows.add((name, "@"))
    meanings = {name: _meaning(name, data, enums) for name in names}
    rows |= {(name, "=", _declared(text)) for name, text in meanings.items() if text}
    for enum in data["enums"]:
        if enum["enum"] in names:
            rows |= {(enum["enum"], "#", name, str(n)) for name, n in enum["values"].items()}
    for name in classes:
        default = "MPSGraphObject" if name.startswith("MPSGraph") else "NSObject"
        parents = _PARENTS.get(name, [default] if name != "NSObject" else [])
        rows |= {(name, ":", parent) for parent in parents if parent != name}
    with open(_OUT.value, "w", encoding="utf-8") as file:
        for row in sorted(rows):
            file.write("\t".join(row) + "\n")
    print(f"{len(rows)} rows, {len(unknown)} methods left out because of a type:")
    print("\n".join(sorted(unknown)))


if __name__ == "__main__":
    app.run(main)

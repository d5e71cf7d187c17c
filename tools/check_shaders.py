#!/usr/bin/env python3
"""Looks for what Apple's Metal compiler would refuse in shaders: tools/check_shaders.py [FILES].

Apple's compiler runs on a Mac only. Three passes stand in for it here:

* rules, one by one, about text: what the Metal Shading Language leaves out of C++, and what it asks
  for beyond it;
* clang over all shaders as the one source that a Mac compiles, by C++14, on which the language
  builds;
* clang with the address spaces as qualifiers: a device pointer is no threadgroup pointer.

A fourth compiles the C++ that the host runs with clang, where the build uses g++. Exits with 1 and
a line for each finding. Source of the rules: Metal Shading Language Specification, chapters 1 to 5.
"""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
import tempfile

import embed_shaders
import msl_to_cpp
from absl import app

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHADERS = ROOT / "kernels" / "msl"

# Of every Apple GPU (Metal feature set tables); host::msl has the same numbers.
MAX_BUFFERS = 31
MAX_THREADGROUP_BYTES = 32768

# What is found -> why it may not be there.
_FORBIDDEN = {
    r"\b(?:long\s+)?double\b": "there is no double",
    r"(?<![\w.])(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])": (
        "a literal without suffix is a double to C++; write f"
    ),
    r"(?<![\w.])\d+[eE][+-]?\d+(?![\w.])": ("a literal without suffix is a double to C++; write f"),
    r"\blong\s+long\b|\b__int128\b|\bwchar_t\b": "not a type of Metal",
    r"\bvirtual\b": "there are no virtual functions",
    r"\b(?:throw|try|catch)\b": "there are no exceptions",
    r"\b(?:dynamic_cast|typeid)\b": "there is no run-time type information",
    r"\b(?:new|delete)\b": "there is no allocation",
    r"\b(?:goto|asm)\b": "not in the language",
    r"\bstatic\b(?![^;={]*\()": "there are no static variables",
    r"\bthread_local\b": "there are no thread_local variables",
    r"\bstd::": "the standard library of Metal is namespace metal",
    r"\[\s*[&=]?\s*\]\s*\(": "there are no lambdas",
    r"\(\s*\*\s*\w+\s*\)\s*\(": "there are no function pointers",
    r"\batomic_(?:long|ulong|double)\b": "there are no atomics of 64 bits on all GPUs",
    r"\batomic_float\b": "sums in any order are not deterministic",
    r"\bfast::|\bfast_math\b": "results are TensorFlow's: no fast math",
    r"#include\s*<(?!metal_)[^>]*>": "only Metal's own headers",
    r'#include\s*"(?!kernels/msl/)[^"]*"': "only headers of kernels/msl",
}
_SPACES = {"device", "constant", "threadgroup", "thread"}
_BUILTIN = (
    "bool char uchar short ushort int uint long ulong half bfloat float size_t "
    + " ".join(
        f"{name}{n}" for name in ("float", "half", "int", "uint", "ushort") for n in (2, 3, 4)
    )
).split()


def _line(code: str, position: int) -> int:
    return code.count("\n", 0, position) + 1


def _types(code: str) -> set[str]:
    """Names of types in a shader: Metal's, its own, and parameters of its templates."""
    names = set(_BUILTIN) | set(re.findall(r"\b(?:struct|enum|using)\s+(\w+)", code))
    return names | set(re.findall(r"\b(?:typename|class)\s+(\w+)", code))


def _pointers(code: str) -> list[tuple[int, str]]:
    """Pointers and references without an address space."""
    types = "|".join(sorted(_types(code), key=len, reverse=True))
    declaration = re.compile(
        rf"(?P<before>(?:\b(?:\w+)\s+)*)\b(?:{types})\s*[*&]+\s*(?:const\s+)?\w+\s*(?=[,)=;\[{{])"
    )
    found = []
    for match in declaration.finditer(code):
        words = match["before"].split()
        # `return a * b` and the like name no type.
        if "return" not in words and not _SPACES & set(words):
            found.append((match.start(), f"no address space: {match[0].strip()}"))
    return found


def _program_scope(code: str) -> list[tuple[int, str]]:
    types = "|".join(sorted(_types(code), key=len, reverse=True))
    variable = re.compile(
        rf"^(?:const\s+|constexpr\s+)*(?:{types})\s+\w+(?:\[[^\]]*\])*\s*[=;]", re.M
    )
    return [
        (m.start(), "a variable of the program must be constant") for m in variable.finditer(code)
    ]


def _kernel(function: msl_to_cpp.Function) -> list[str]:
    """What is wrong with a kernel's parameters."""
    wrong, taken = [], set()
    for p in msl_to_cpp.kernel_parameters(function):
        spaces = _SPACES & set(p.type.split())
        is_memory = p.attribute in ("buffer", "threadgroup")
        expected = {"buffer": {"device", "constant"}, "threadgroup": {"threadgroup"}}
        if is_memory and (p.attribute, p.index) in taken:
            wrong.append(f"{p.attribute}({p.index}) twice")
        taken.add((p.attribute, p.index))
        if is_memory and not spaces & expected[p.attribute]:
            wrong.append(f"{p.attribute}({p.index}) is not in {' or '.join(expected[p.attribute])}")
        if is_memory and not 0 <= p.index < MAX_BUFFERS:
            wrong.append(f"{p.attribute}({p.index}): at most {MAX_BUFFERS}")
        if not is_memory and not re.fullmatch(r"(const )?(uint|ushort)[23]?", p.type):
            wrong.append(f"[[{p.attribute}]] of type {p.type}")
    return wrong


def lint(source: str, name: str) -> list[str]:
    """What is wrong with a shader or its header by its text: lines "name:line: message"."""
    code = msl_to_cpp.without_comments(source)
    found = [
        (match.start(), f"{match[0].strip()}: {why}")
        for pattern, why in _FORBIDDEN.items()
        for match in re.finditer(pattern, code)
    ]
    found += _pointers(code) + _program_scope(code)
    plain = msl_to_cpp.without_instantiations(code)
    functions = msl_to_cpp.functions(plain)
    at = {f.name: match.start() for f in functions if (match := re.search(rf"\b{f.name}\b", code))}
    for function in functions:
        if not function.is_kernel:
            continue
        try:
            found += [
                (at[function.name], f"kernel {function.name}: {w}") for w in _kernel(function)
            ]
        except msl_to_cpp.ShaderError as e:
            found.append((at[function.name], str(e)))
    return [f"{name}:{_line(code, position)}: {text}" for position, text in sorted(found)]


# ---- clang ---------------------------------------------------------------------------------------


def _with_threadgroup_limit(text: str) -> str:
    """Variables in threadgroup memory become static, with a check of each kernel's sum."""
    kernels = [m.start() for m in re.finditer(r"\bkernel\b", text)]
    sums: dict[int, list[str]] = {}

    def replaced(match: re.Match) -> str:
        owner = sum(k < match.start() for k in kernels)
        sums.setdefault(owner, []).append(f"sizeof({match['name']})")
        total = " + ".join(sums[owner])
        return (
            f"static threadgroup {match['rest']}; static_assert({total} <= "
            f'{MAX_THREADGROUP_BYTES}, "more threadgroup memory than there is");'
        )

    declaration = r"\bthreadgroup\b(?P<rest>\s+\w+\s+(?P<name>\w+)[^*&();={}]*);"
    return re.sub(declaration, replaced, text)


def one_source(files: list[pathlib.Path]) -> str:
    """The source that a Mac compiles, as C++ of msl_declarations.h."""
    seen: set[str] = set()
    text = "\n".join(embed_shaders.inlined(f, seen, lines=True) for f in files)
    text = msl_to_cpp.without_comments(text)
    text = re.sub(r"#include\s*<metal_\w+>", "", text)
    text = re.sub(r"\[\[\s*\w+(\(\s*[\w\"]+\s*\))?\s*\]\]", "", text)
    text = _with_threadgroup_limit(text)
    braced = set(re.findall(r"\b([A-Z]\w+)(?:\s+\w+)?\s*(?:=\s*)?\{(?!\s*\n)", text))

    def copied(match: re.Match) -> str:  # lists of values are for structs without constructors
        return match[0] if match[1] in braced else f"{match[0]} MSL_COPIES({match[1]})"

    text = re.sub(r"\bstruct\s+(\w+)\s*\{", copied, text)
    return f'#include "{ROOT}/tools/msl_declarations.h"\nnamespace metal {{}}\n{text}\n'


def host_source(files: list[pathlib.Path]) -> str:
    """All shaders as the host compiles them, in one source."""
    return "\n".join(msl_to_cpp.convert(f.read_text(encoding="utf-8"), str(f)) for f in files)


def clang(source: str, *flags: str) -> tuple[str, list[str]]:
    """What clang (package ziglang) prints about a C++ source, and its errors."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "shaders.cc"
        path.write_text(source, encoding="utf-8")
        command = [sys.executable, "-m", "ziglang", *flags, "-ferror-limit=100", f"-I{ROOT}", path]
        result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    errors = [line for line in result.stderr.splitlines() if ": error:" in line]
    return result.stdout, errors or ([result.stderr] if result.returncode else [])


_MAC = ("clang", "-target", "aarch64-apple-macos14.0", "-nostdinc", "-nostdinc++")


def dialect(files: list[pathlib.Path]) -> list[str]:
    """Errors of the shaders as C++14, and functions that call themselves."""
    newer = [f"-Werror=c++{year}-extensions" for year in (17, 20, 23)]
    code, errors = clang(
        one_source(files), *_MAC, "-std=c++14", *newer, "-O0", "-S", "-emit-llvm", "-o", "-"
    )
    return errors or [f"{name} is recursive" for name in recursive(code)]


def recursive(code: str) -> list[str]:
    """The functions of LLVM code that can come back to themselves, by linker name."""
    calls: dict[str, set[str]] = {}
    function = ""
    for line in code.splitlines():
        if match := re.match(r"define .*?@([\w.$]+)\(", line):
            function = match[1]
            calls[function] = set()
        elif match := re.search(r"\bcall .*?@([\w.$]+)\(", line):
            calls[function].add(match[1])

    def reached(start: str) -> set[str]:
        seen, todo = set(), list(calls[start])
        while todo:
            if (name := todo.pop()) in calls and name not in seen:
                seen.add(name)
                todo += calls[name]
        return seen

    return sorted(name for name in calls if name in reached(name))


def address_spaces(files: list[pathlib.Path]) -> list[str]:
    """Errors of the shaders with address spaces; C++23 is for MSL_COPIES."""
    flags = ("-std=c++23", "-DMSL_ADDRESS_SPACES", "-fsyntax-only")
    return clang(one_source(files), *_MAC, *flags)[1]


def host(files: list[pathlib.Path]) -> list[str]:
    """Errors of clang about the C++ that the host runs."""
    warnings = ("-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-unknown-pragmas", "-Werror")
    return clang(host_source(files), "c++", "-std=c++20", "-c", "-o", "shaders.o", *warnings)[1]


def main(argv: list[str]) -> None:
    files = [pathlib.Path(name).resolve() for name in argv[1:]] or sorted(SHADERS.glob("*.metal"))
    headers = [] if argv[1:] else sorted(SHADERS.glob("*.h"))
    texts = {path: path.read_text(encoding="utf-8") for path in [*files, *headers]}
    found = [line for path, text in texts.items() for line in lint(text, str(path))]
    for check in (dialect, address_spaces, host):
        found += check(files)
    print("\n".join(found) or f"{len(files)} shaders are fine")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    app.run(main)

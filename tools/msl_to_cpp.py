#!/usr/bin/env python3
"""Makes C++ of a Metal shader, for the CPU: msl_to_cpp.py IN OUT.

The shader's text stays as it is, inside namespace metal and behind plugin/host/msl/metal_stdlib.h,
but for what C++ does not have: `#include <metal_...>`, attributes, explicit instantiations with
[[host_name("...")]], and threadgroup variables (which become thread_local statics). Behind it comes
one entry in the kernel registry for each kernel: what its parameters are, and a thunk that takes
them from the bound buffers and from the thread's place in the grid.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import sys

import generated

# Attribute of a parameter -> the expression of its value; `t` is a host::msl::Thread.
_ATTRIBUTES = {
    "thread_position_in_grid": "t.position",
    "thread_position_in_threadgroup": "t.position_in_group",
    "threadgroup_position_in_grid": "t.group",
    "threads_per_grid": "t.grid",
    "threads_per_threadgroup": "t.group_size",
    "dispatch_threads_per_threadgroup": "t.nominal_group_size",
    "threadgroups_per_grid": "t.groups",
    "thread_index_in_threadgroup": "t.index_in_group",
    "thread_index_in_simdgroup": "t.index_in_group % host::msl::kSimdWidth",
    "simdgroup_index_in_threadgroup": "t.index_in_group / host::msl::kSimdWidth",
    "threads_per_simdgroup": "host::msl::kSimdWidth",
    "simdgroups_per_threadgroup": (
        "(t.group_size.count() + host::msl::kSimdWidth - 1) / host::msl::kSimdWidth"
    ),
}
_OF_THE_GRID = {"thread_position_in_grid", "threads_per_grid"}
_SYNCHRONISES = r"\b(?:threadgroup_barrier|simdgroup_barrier|simd_\w+)\s*\("
_ADDRESS_SPACES = r"\b(?:device|constant|threadgroup|thread|const|volatile)\b"


class ShaderError(Exception):
    pass


@dataclasses.dataclass
class Parameter:
    type: str
    attribute: str
    index: int  # of buffer(i) or threadgroup(i)

    def element(self, substitute) -> str:
        text = re.sub(_ADDRESS_SPACES, "", substitute(self.type))
        return text.replace("*", "").replace("&", "").strip()


@dataclasses.dataclass
class Function:
    name: str
    is_kernel: bool
    template: list[str]  # names of its template parameters
    parameters: str
    body: str


def without_comments(text: str) -> str:
    """The text with comments blanked out, every other character in its place."""
    blank = lambda m: re.sub(r"[^\n]", " ", m.group(0))  # noqa: E731
    return re.sub(r"//[^\n]*|/\*.*?\*/", blank, text, flags=re.S)


def _balanced(text: str, start: int, brackets: str) -> int:
    """The position after the bracket that closes the one at `start`."""
    depth = 0
    for i in range(start, len(text)):
        depth += {brackets[0]: 1, brackets[1]: -1}.get(text[i], 0)
        if depth == 0:
            return i + 1
    raise ShaderError(f"unbalanced {brackets}")


def _split(text: str) -> list[str]:
    """Splits at the commas that are outside of any bracket."""
    parts, depth, part = [], 0, ""
    for c in text:
        depth += (c in "([{<") - (c in ")]}>")
        if c == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += c
    return [p.strip() for p in [*parts, part] if p.strip()]


def functions(code: str) -> list[Function]:
    """The functions that a shader without comments defines."""
    found = []
    head = re.compile(
        r"(?:template\s*<(?P<template>[^;{}()]*?)>\s*)?"
        r"(?P<before>(?:[\w:<>,*&]+[\s*&]+)+)(?P<name>\w+)\s*(?=\()"
    )
    position = 0
    while match := head.search(code, position):
        end = _balanced(code, match.end(), "()")
        after = re.compile(r"\s*(const\s*)?\{").match(code, end)
        if not after or "return" in match["before"].split():
            position = match.end()
            continue
        body_end = _balanced(code, after.end() - 1, "{}")
        template = [t.split("=")[0].split()[-1] for t in _split(match["template"] or "")]
        is_kernel = "kernel" in match["before"].split()
        parameters, body = code[match.end() + 1 : end - 1], code[after.end() : body_end]
        found.append(Function(match["name"], is_kernel, template, parameters, body))
        # A struct's methods are found inside of its braces, so only function bodies are skipped.
        position = body_end
    return found


def _synchronising(functions: list[Function]) -> set[str]:
    """Names of functions that meet other threads, themselves or through what they call."""
    names = {f.name for f in functions if re.search(_SYNCHRONISES, f.body)}
    while True:
        calls = re.compile(r"\b(?:%s)\b" % ("|".join(map(re.escape, names)) or "(?!)"))
        more = {f.name for f in functions if calls.search(f.body)} | names
        if more == names:
            return names
        names = more


def kernel_parameters(function: Function) -> list[Parameter]:
    """The parameters of a kernel; raises ShaderError."""
    parameters = []
    for text in _split(function.parameters):
        match = re.search(r"\[\[\s*(\w+)(?:\(\s*(\w+)\s*\))?\s*\]\]", text)
        if not match:
            raise ShaderError(f"kernel {function.name}: parameter without attribute: {text}")
        declaration = re.sub(r"\[\[.*?\]\]", "", text).strip()
        type_name = re.match(r"(.*?)\w+$", declaration, re.S)[1].strip()
        attribute, index = match[1], match[2]
        if attribute not in ("buffer", "threadgroup") and attribute not in _ATTRIBUTES:
            raise ShaderError(f"kernel {function.name}: unknown attribute [[{attribute}]]")
        parameters.append(Parameter(type_name, attribute, int(index or 0)))
    return parameters


def _argument(p: Parameter, substitute) -> str:
    element = p.element(substitute)
    if p.attribute == "buffer":
        pointer = f"static_cast<{element}*>(buffers[{p.index}])"
        return f"*{pointer}" if "&" in p.type else pointer
    if p.attribute == "threadgroup":
        return f"static_cast<{element}*>(t.shared[{p.index}])"
    return f"attribute<{element}>({_ATTRIBUTES[p.attribute]})"


def _runner(function: Function, synchronising: set[str]) -> str:
    """The function of plugin/host/msl/kernel.h that runs the threads of a group."""
    if function.name in synchronising:
        return "run_synchronized"
    return "run_lanes" if re.search(r"\blane\(", function.body) else "run_independent"


def _registration(host_name: str, function: Function, arguments: list[str], run: str):
    names = dict(zip(function.template, arguments, strict=True))

    def substitute(text: str) -> str:
        return re.sub(r"\w+", lambda m: names.get(m[0], m[0]), text)

    parameters = kernel_parameters(function)
    values = ", ".join(_argument(p, substitute) for p in parameters)
    template = f"<{', '.join(arguments)}>" if arguments else ""
    rows = []
    for p in parameters:
        if p.attribute in ("buffer", "threadgroup"):
            element = p.element(substitute)
            shared = "true" if p.attribute == "threadgroup" else "false"
            written = "false" if re.search(r"\b(const|constant)\b", p.type) else "true"
            rows.append(
                f"{{{p.index}, sizeof({element}), alignof({element}), {shared}, {written}}}"
            )
    # Groups of threads that know nothing of their group may be of any size.
    attributes = {p.attribute for p in parameters} - {"buffer"}
    ungrouped = run != "run_synchronized" and attributes <= _OF_THE_GRID
    flag = "true" if ungrouped else "false"
    call = f"{function.name}{template}"
    if run == "run_synchronized":
        thunk = f"""
static void thunk_{host_name}([[maybe_unused]] void* const* buffers,
                              [[maybe_unused]] const host::msl::Thread& t) {{
  {call}({values});
}}"""
        thread = f"&thunk_{host_name}"
    else:
        thunk = _bound(f"bound_{host_name}", call, parameters, substitute)
        thread = f"bound_{host_name}"
    return f"""{thunk}
static const host::msl::KernelRegistration registration_{host_name}(
    {{"{host_name}", {{{", ".join(rows)}}}, &host::msl::{run}<{thread}>, {flag}}});
"""


def _bound(name: str, call: str, parameters: list[Parameter], substitute) -> str:
    """A struct that holds the arguments of a launch, by value, and runs threads.

    Where it is a local variable, no store of a thread can change it.
    """
    members, values, arguments = [], [], []
    for p in parameters:
        if p.attribute not in ("buffer", "threadgroup"):
            arguments.append(_argument(p, substitute))
            continue
        element = p.element(substitute)
        by_value = p.attribute == "buffer" and "&" in p.type and "device" not in p.type.split()
        member = f"b{len(members)}"
        if by_value:
            members.append(f"  const {element} {member};")
            values.append(f"{member}({_argument(p, substitute)})")
            arguments.append(member)
        elif p.attribute == "buffer":
            members.append(f"  {element}* const {member};")
            values.append(f"{member}(static_cast<{element}*>(buffers[{p.index}]))")
            arguments.append(f"*{member}" if "&" in p.type else member)
        else:
            arguments.append(_argument(p, substitute))
    initial = f" : {', '.join(values)}" if values else ""
    return f"""
struct {name} {{
{chr(10).join(members)}
  explicit {name}([[maybe_unused]] void* const* buffers){initial} {{}}
  void operator()([[maybe_unused]] const host::msl::Thread& t) const {{
    {call}({", ".join(arguments)});
  }}
}};"""


# Either `kernel void f<float>(device float*, ...);` or `kernel decltype(f<float>) f<float>;`.
_INSTANTIATION = re.compile(
    r'template\s*\[\[\s*host_name\(\s*"(\w+)"\s*\)\s*\]\]\s*(?:\[\[kernel\]\]|kernel)\s+'
    r"(?:void|decltype\([^;()]*\))\s+(\w+)\s*<([^;]*?)>\s*(?:\([^;]*?\))?\s*;",
    re.S,
)


def without_instantiations(code: str) -> str:
    """The code with explicit instantiations of kernels blanked out."""
    return _INSTANTIATION.sub(lambda m: "\n" * m[0].count("\n"), code)


Job = tuple[str, Function, list[str]]  # the kernel's name to Metal, its template's arguments


def kernel_jobs(code: str) -> tuple[list[Job], set[str]]:
    """The kernels of a shader without comments, and the functions in it that synchronise."""
    instantiations = _INSTANTIATION.findall(code)
    defined = functions(without_instantiations(code))
    kernels = {f.name: f for f in defined if f.is_kernel}
    synchronising = _synchronising(defined)

    jobs = [(k.name, k, []) for k in kernels.values() if not k.template]
    for host_name, name, arguments in instantiations:
        if name not in kernels:
            raise ShaderError(f"{host_name}: there is no kernel {name}")
        jobs.append((host_name, kernels[name], _split(arguments)))
    return jobs, synchronising


def synchronising_kernels(source: str) -> list[str]:
    """Names of the kernels in a shader whose threads meet."""
    jobs, synchronising = kernel_jobs(without_comments(source))
    return [name for name, function, _ in jobs if function.name in synchronising]


def convert(source: str, file_name: str) -> str:
    code = without_comments(source)
    jobs, synchronising = kernel_jobs(code)
    text = without_instantiations(code)
    text = re.sub(r"#include\s*<metal_\w+>|using namespace metal;", "", text)
    text = re.sub(r"\[\[\s*\w+(\(\s*\w+\s*\))?\s*\]\]", "", text)  # attributes
    # A declaration: no pointer, reference or parameter list follows the keyword.
    text = re.sub(r"\bthreadgroup\b(?=[^*&();={}]*;)", "MSL_THREADGROUP_VARIABLE", text)
    parts = [
        f"// Generated by tools/msl_to_cpp.py from {file_name}.\n"
        '#include "plugin/host/msl/metal_stdlib.h"\n'
        '#pragma GCC diagnostic ignored "-Wunused-function"\n'
        "namespace metal {\n"
        "namespace {\n"  # shaders are separate files here: their helpers do not clash
        f'#line 1 "{file_name}"\n',
        text,
    ]
    for host_name, function, arguments in jobs:
        parts.append(
            _registration(host_name, function, arguments, _runner(function, synchronising))
        )
    return "".join(parts) + "\n}  // namespace\n}  // namespace metal\n"


def main(source: str, output: str) -> None:
    try:
        text = convert(pathlib.Path(source).read_text(encoding="utf-8"), source)
    except ShaderError as e:
        sys.exit(f"{source}: {e}")
    generated.write(output, text)


if __name__ == "__main__":
    main(*sys.argv[1:])

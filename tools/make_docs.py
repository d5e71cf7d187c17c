"""Writes what the documentation repeats from the plugin: make docs, checked by make docs-check.

    tools/make_docs.py [--check]

A page is generated as a whole; in other files the text between these markers is:

    <!-- generated: NAME -->
    <!-- end of NAME -->
"""

import argparse
import os
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOST_PREFIX = "TF_METAL_HOST_"


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in lines)


def variables(simulation: bool) -> str:
    import tensorflow_metal_py as metal

    rows = [
        (f"`{row.name}`", f"`{row.default}`" if row.default else "", row.help)
        for row in metal.environment()
        if row.name.startswith(HOST_PREFIX) == simulation
    ]
    return table(("variable", "default", "meaning"), rows)


def environment_page() -> str:
    return (
        "# Environment variables\n\n"
        "Generated from `plugin/env.cc` by `make docs`. `python -m tensorflow_metal_py env`\n"
        "prints the values of this machine. They are read when TensorFlow loads the plugin.\n\n"
        f"{variables(False)}\n"
        "## Simulating a Mac\n\n"
        "On Linux the plugin talks to a simulation of Metal, which these set up; macOS ignores\n"
        "them.\n\n"
        f"{variables(True)}"
    )


def ops_page() -> str:
    from tensorflow_metal_py import _runtime

    rows = []
    for op in sorted(_runtime.call("ops"), key=lambda row: (row["op"], row["kind"])):
        types = "; ".join(f"{attr}: {', '.join(names)}" for attr, names in op["types"].items())
        host = ", ".join(f"{name} ({use})" for name, use in op["host"].items())
        rows.append((op["op"], op["kind"], types, host, op["precision"], op["cluster"]))
    header = ("op", "kind", "element types", "host inputs", "precision", "cluster")
    return (
        "# Ops\n\n"
        "Generated from the op table (`kernels/`) by `make docs`; `python -m tensorflow_metal_py\n"
        "ops` prints it for the TensorFlow of this machine.\n\n"
        "*Kind*: `graph` is lowered to MPSGraph, `native` runs on our own shaders, `dynamic`\n"
        "waits for the device to learn its output's shape, `resource` and\n"
        "`variant` work on variables and tensor lists. *Host inputs* are read on the host: a\n"
        "`key` is part of the compiled plan, an `arg` is passed at each launch. *Precision*\n"
        "is the class of automatic mixed precision. int32 is missing where it is shape\n"
        "arithmetic, which stays on the host.\n\n"
        f"{len({op[0] for op in rows})} ops.\n\n{table(header, rows)}"
    )


def fusions_page() -> str:
    from tensorflow_metal_py import _runtime

    known = _runtime.call("patterns")
    rows, rules = [], []
    for row in sorted(known["patterns"], key=lambda row: row["name"]):
        becomes = "another graph" if row["rewrites"] else "one op"
        rows.append((f"`{row['name']}`", row["fuses"], becomes))
        conditions = "".join(f"\n* {text}\n" for text in row["when"])
        rules.append(f"### {row['name']}\n\n```\n{row['tree']}\n```\n" + conditions)
    parts = "".join(f"{name} = {text}\n" for name, text in known["parts"].items())
    cells = "".join(
        f"* `{row['name']}`: {row['fuses']}\n\n```\n{row['tree']}\n```\n\n"
        for row in known["cells"]
    )
    return (
        "# Fusions\n\n"
        "Generated from the pattern table (`grappler/remapper/`) by `make docs`.\n\n"
        "The remapper looks for these patterns in every graph, after TensorFlow's own passes.\n"
        "What a pattern matches becomes one op, `_MetalCluster`, which computes exactly what its\n"
        "members compute; a few patterns become another graph instead. Where several patterns\n"
        "match, the one that takes most nodes wins.\n\n"
        "`python -m tensorflow_metal_py fusions MODEL` lists what fuses in a model, and for near\n"
        'misses the rule that stopped them. `stats()["fusions"]` counts what fired.\n'
        "`TF_METAL_GRAPPLER=-remapper/gelu` switches a pattern off, `-remapper` all of them.\n\n"
        f"{table(('pattern', 'what it fuses', 'becomes'), rows)}\n"
        "## Rules\n\n"
        "They hold for every pattern:\n\n"
        "* G1: nodes that disappear are read by the match only, and their names are not preserved\n"
        "  (fetched). Some patterns leave inner values readable for a gradient instead.\n"
        "* G2: no control edge begins or ends at them; those of the root move to the fused op.\n"
        "* G3: all nodes are on the same device, one of ours.\n"
        "* G4: values that stay readable live and die with the root, in its loop, and no path\n"
        "  leaves the match and comes back.\n"
        "* G5: all have the root's element type, and a kernel that a fused op can run.\n"
        "* G6: the pattern's own conditions, listed below. Unknown shapes are not guessed.\n\n"
        "## Patterns\n\n"
        "`/` separates the ops that a node may be, `?` marks what may be missing, `_` is\n"
        "anything. Terms and factors come in any order; a name is the same tensor everywhere.\n\n"
        f"```\n{parts}```\n\n" + "\n".join(rules) + "\n"
        "## Recurrent loops\n\n"
        "The pass `rnn` looks for loops over time whose step is one of these cells and nothing\n"
        "else, seen from its new state, and makes them one op, `_MetalRnn`. In training the\n"
        "gradient, a loop too, becomes `_MetalRnnGrad`: it is not compared with a pattern, but\n"
        "computed with polynomials, and must be equal to the gradient of the cell.\n"
        "`grappler/rnn/rnn.cc` says when. Sums are made in another order than in the loop, and\n"
        "with 16 bits the states and their gradients stay float32 from step to step. Masks,\n"
        "recurrent dropout, other activations, `implementation=1`, a second gradient of the same\n"
        "loop (that of its gradient among them) and a gradient in another function (an eager tape\n"
        "around a `tf.function`) leave loops, which wait for nothing either.\n\n"
        f"{cells.rstrip()}\n"
    )


# Path of a page -> its text; (path, name of the marked section) -> its text.
PAGES = {
    "docs/environment.md": environment_page,
    "docs/ops.md": ops_page,
    "docs/fusions.md": fusions_page,
}
SECTIONS = {("README.md", "environment"): lambda: variables(False)}


def with_section(text: str, name: str, content: str) -> str:
    begin, end = f"<!-- generated: {name} -->\n", f"<!-- end of {name} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    replaced, count = pattern.subn(lambda _: f"{begin}\n{content}\n{end}", text)
    if count != 1:
        raise SystemExit(f"expected one section {name!r}, found {count}")
    return replaced


def wanted() -> dict[pathlib.Path, str]:
    """What each file should contain."""
    texts = {ROOT / path: page() for path, page in PAGES.items()}
    for (path, name), content in SECTIONS.items():
        file = ROOT / path
        texts[file] = with_section(texts.get(file) or file.read_text(), name, content())
    return texts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, fail if out of date")
    check = parser.parse_args().check
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Defaults are documented, whatever is set here.
    for name in [n for n in os.environ if n.startswith("TF_METAL_")]:
        del os.environ[name]
    old = {
        path: text
        for path, text in wanted().items()
        if not path.exists() or path.read_text() != text
    }
    for path, text in old.items():
        print(f"{path.relative_to(ROOT)} {'is out of date: run make docs' if check else 'written'}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return 1 if check and old else 0


if __name__ == "__main__":
    sys.exit(main())

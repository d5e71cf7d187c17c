"""Command lines of the tools in this package, which share a process: each has flags of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from absl import flags


def parse(
    values: flags.FlagValues,
    usage: str,
    arguments: Sequence[str],
    check: Callable[[list[str]], str],
) -> list[str] | None:
    """Reads the flags into `values`.

    Args:
      usage: the command and what follows it, such as "nans MODEL".
      check: what is wrong with the arguments that are no flags, or with the flags, or "".

    Returns:
      The arguments that are no flags. None if something was wrong, which has been printed.
    """
    usage_line = f"usage: python -m tensorflow_metal_py {usage}"
    try:
        rest = values([usage, *arguments])[1:]
    except flags.Error as error:
        help_text = values.main_module_help() or values
        print(f"{error}\n{usage_line}\n\nflags:\n{help_text}", file=sys.stderr)
        return None
    if problem := check(rest):
        print(f"{problem}; {usage_line}", file=sys.stderr)
        return None
    return rest

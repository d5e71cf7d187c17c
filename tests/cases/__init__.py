"""All cases, collected from the files of this folder: each has a function ``cases()``."""

import importlib
import pkgutil

from tests.spine import Case


def all_cases() -> list[Case]:
    found: list[Case] = []
    for module in pkgutil.iter_modules(__path__):
        found += importlib.import_module(f"{__name__}.{module.name}").cases()
    return found

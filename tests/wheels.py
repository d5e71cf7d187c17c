"""What the tests of wheels share."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def package_files() -> set[str]:
    """What a wheel holds of the Python package, data included."""
    files = [path for path in (ROOT / "tensorflow_metal_py").rglob("*") if path.is_file()]
    left_out = {"BUILD", "__pycache__", "_shims"}
    return {str(p.relative_to(ROOT)) for p in files if not left_out & set(p.parts)}

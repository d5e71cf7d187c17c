"""The headers of the TensorFlow beside PYTHON_BIN_PATH (or python3), as tools/tf_headers.py finds."""

def _implementation(context):
    python = context.os.environ.get("PYTHON_BIN_PATH") or str(context.which("python3"))
    tool = context.path(Label("//tools:tf_headers.py"))
    cache = context.path(Label("//:WORKSPACE")).dirname.get_child(".cache").get_child("wheels")
    found = context.execute([python, tool, "--cache", cache], timeout = 600)
    if found.return_code:
        fail("no TensorFlow headers: " + found.stderr)
    context.symlink(found.stdout.strip(), "include")
    context.file("BUILD", """
cc_library(
    name = "headers",
    hdrs = glob(["include/tensorflow/c/**/*.h", "include/xla/tsl/c/**/*.h",
                 "include/tsl/**/*.h", "include/xla/tsl/platform/**/*.h",
                 "include/tensorflow/core/platform/**/*.h"]),
    includes = ["include"],
    visibility = ["//visibility:public"],
)
""")

tensorflow_headers = repository_rule(
    implementation = _implementation,
    environ = ["PYTHON_BIN_PATH"],
    local = True,
)

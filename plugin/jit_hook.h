// Installs tensorflow_metal_py/_jit_hook.py in the Python that loads the plugin.
//
// Keras asks XLA to compile for whatever GPU is listed, and there is no C function to object. So
// the library carries that file and runs it, if there is a Python in this process at all.
#pragma once

#include <string>

namespace tfmetal {

// Does nothing without Python or with TF_METAL_JIT_HOOK=0. A failure is a warning.
void install_jit_hook(const std::string& device_type);

// The text of _jit_hook.py, generated at build time.
extern const char* const kJitHookSource;

}  // namespace tfmetal

// How this process updates resource variables, decided once when the plugin loads.
//
// TensorFlow's stock AssignAdd and AssignSub kernels loop over device memory on the host, unordered
// with the stream. Our own kernels need the variable functions of kernels_experimental.h, which
// some TensorFlow releases declare but do not export. For those a shim, built against exactly that
// minor version (tools/build_shim.py), provides them. With neither, the stock kernels stay, and
// every kernel of ours waits for the GPU.
#pragma once

#include <string>

namespace tfmetal {

enum class VariableMode {
  kCApi,  // TensorFlow exports the variable functions
  kShim,  // a shim provides them; the pointers in `tf` are filled
  kSync,  // nobody does: no variable kernels, and streams are synchronous
};

// Decided at the first call, after load_tf_api(). TF_METAL_SHIM: auto looks for
// libvariables-<major>.<minor> beside the Python package; off, or the path of a library.
VariableMode variable_mode();
const char* name(VariableMode mode);  // "api", "shim", "sync"
// Where the functions come from, or why there are none.
const std::string& variable_mode_reason();

// Every stream waits for the GPU after every op: TF_METAL_SYNC, or because of the variables.
bool synchronous();

}  // namespace tfmetal

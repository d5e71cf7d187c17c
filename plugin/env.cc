#include "plugin/env.h"

#include <algorithm>
#include <cstdlib>

namespace tfmetal::env {

const Variable kDisable{"TF_METAL_DISABLE", "0", "1: offer no device; TensorFlow runs on the CPU."};
const Variable kDeviceType{"TF_METAL_DEVICE_TYPE", "GPU",
                           "Device type to register: GPU, or METAL (for a TensorFlow built with "
                           "CUDA, whose own kernels claim GPU)."};
const Variable kDevices{"TF_METAL_DEVICES", "1",
                        "Number of devices to offer on the one GPU (for tf.distribute tests)."};
const Variable kLog{"TF_METAL_LOG", "0", "0: warnings only, 1: information, 2: every decision."};
const Variable kSync{"TF_METAL_SYNC", "0", "1: wait for the GPU after every op."};
const Variable kShim{"TF_METAL_SHIM", "auto",
                     "Variable shim: auto, off, or the path of a shim library."};
const Variable kJitHook{"TF_METAL_JIT_HOOK", "1",
                        "0: change nothing in Python: Keras then asks XLA to compile for this "
                        "device and fails on Linux, so does tf.function(jit_compile=True), and "
                        "tf.config.experimental.get_memory_info answers zeros."};
const Variable kMemoryLimit{"TF_METAL_MEMORY_LIMIT", "0",
                            "Bytes of device memory to use at most; 0: what Metal recommends."};
const Variable kCacheBytes{"TF_METAL_CACHE_BYTES", "268435456",
                           "Bytes of compiled plans to keep; the least recently used go first."};
const Variable kOpsPerCommit{"TF_METAL_OPS_PER_COMMIT", "64",
                             "Ops in a command buffer before it is committed."};
const Variable kBytesPerCommit{"TF_METAL_BYTES_PER_COMMIT", "67108864",
                               "Bytes touched by a command buffer before it is committed."};
const Variable kGrappler{"TF_METAL_GRAPPLER", "all",
                         "Graph passes: all, none, or a list such as all,-cluster,-remapper/gelu "
                         "(docs/fusions.md)."};
const Variable kDumpGraphs{"TF_METAL_DUMP_GRAPHS", "",
                           "Directory into which each graph is written before and after the "
                           "graph passes."};
const Variable kPoison{"TF_METAL_POISON", "0",
                       "1: fill device memory with NaN bytes on allocation and on free."};
const Variable kMixedPrecision{
    "TF_METAL_MIXED_PRECISION", "tensorflow",
    "Automatic mixed precision of graphs: float16, bfloat16, off, or tensorflow: as TensorFlow's "
    "own switch says (docs/mixed_precision.md)."};
const Variable kAllowlistAdd{"TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_ALLOWLIST_ADD", "",
                             "Ops, separated by commas, that are worth converting."};
const Variable kAllowlistRemove{"TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_ALLOWLIST_REMOVE", "",
                                "Ops that are not on this list."};
const Variable kInferlistAdd{"TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_INFERLIST_ADD", "",
                             "Ops, separated by commas, that are converted between others."};
const Variable kInferlistRemove{"TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_INFERLIST_REMOVE", "",
                                "Ops that are not on this list."};
const Variable kDenylistAdd{"TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_DENYLIST_ADD", "",
                            "Ops, separated by commas, that are never converted."};
const Variable kDenylistRemove{"TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_DENYLIST_REMOVE", "",
                               "Ops that are not on this list."};
const Variable kClearlistAdd{"TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_CLEARLIST_ADD", "",
                             "Ops, separated by commas, that are neutral."};
const Variable kClearlistRemove{"TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_CLEARLIST_REMOVE", "",
                                "Ops that are not on this list."};
const Variable kPrecisionLevel{"TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_LEVEL", "",
                               "UNSAFE_FORCE_ALL, TREAT_INFER_AS_DENY or TENSOR_CORES_ONLY; empty: "
                               "as the lists say."};
const Variable kQuarantine{"TF_METAL_QUARANTINE", "",
                           "Folder of the list of ops that a selftest found wrong on this machine, "
                           "which then run on the CPU. Empty: the user's cache folder; off: use "
                           "every op."};

const Variable kLoaded{"TF_METAL_LOADED", "",
                       "Set by the plugin: process id and path of the copy that serves it. Do "
                       "not set it."};
const Variable kStockMixedPrecision{
    "TF_METAL_STOCK_MIXED_PRECISION", "",
    "Set by the plugin: 1 while TensorFlow's option auto_mixed_precision is on. Do not set it."};

const Variable kHostMacos{"TF_METAL_HOST_MACOS", "15.0",
                          "macOS version to simulate (14.0 and up)."};
const Variable kHostChaos{"TF_METAL_HOST_CHAOS", "0",
                          "Seed; anything but 0 delays and splits what Metal's API allows to be "
                          "delayed and split, and lets pipelines run the fewest threads."};
const Variable kHostFail{"TF_METAL_HOST_FAIL", "",
                         "Part of the label of the encoder or command buffer that shall "
                         "fail once; text after an @ makes it a new value."};
const Variable kHostMemory{"TF_METAL_HOST_MEMORY", "0",
                           "Bytes of the simulated GPU; 0: three quarters of this machine's."};
const Variable kHostGpus{"TF_METAL_HOST_GPUS", "1", "0: simulate a Mac on which Metal has no GPU."};
const Variable kHostWrong{"TF_METAL_HOST_WRONG", "",
                          "Part of the name of shaders whose first result shall be wrong."};

const std::vector<const Variable*>& table() {
  static const std::vector<const Variable*> rows = {&kDisable,
                                                    &kDeviceType,
                                                    &kDevices,
                                                    &kLog,
                                                    &kSync,
                                                    &kShim,
                                                    &kJitHook,
                                                    &kMemoryLimit,
                                                    &kCacheBytes,
                                                    &kOpsPerCommit,
                                                    &kBytesPerCommit,
                                                    &kGrappler,
                                                    &kDumpGraphs,
                                                    &kPoison,
                                                    &kMixedPrecision,
                                                    &kAllowlistAdd,
                                                    &kAllowlistRemove,
                                                    &kInferlistAdd,
                                                    &kInferlistRemove,
                                                    &kDenylistAdd,
                                                    &kDenylistRemove,
                                                    &kClearlistAdd,
                                                    &kClearlistRemove,
                                                    &kPrecisionLevel,
                                                    &kHostMacos,
                                                    &kHostChaos,
                                                    &kHostFail,
                                                    &kHostMemory,
                                                    &kHostGpus,
                                                    &kHostWrong,
                                                    &kQuarantine,
                                                    &kLoaded,
                                                    &kStockMixedPrecision};
  return rows;
}

std::string text(const Variable& variable) {
  const char* value = std::getenv(variable.name);
  return value && *value ? value : variable.fallback;
}

bool flag(const Variable& variable) {
  const std::string value = text(variable);
  return value != "" && value != "0" && value != "false" && value != "off" && value != "no";
}

long integer(const Variable& variable) { return std::strtol(text(variable).c_str(), nullptr, 10); }

std::vector<std::string> words(const Variable& variable) { return words(text(variable)); }

std::vector<std::string> words(std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    if (comma) out.emplace_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return out;
}

std::string cache_folder() {
  constexpr const char* kName = "/tensorflow_metal_py";
  const char* home = std::getenv("HOME");
#ifdef __APPLE__
  return home && *home ? std::string(home) + "/Library/Caches" + kName : "";
#else
  const char* caches = std::getenv("XDG_CACHE_HOME");
  if (caches && *caches) return std::string(caches) + kName;
  return home && *home ? std::string(home) + "/.cache" + kName : "";
#endif
}

}  // namespace tfmetal::env

// Every environment variable the plugin reads. The table is in env.cc; the documentation is
// generated from it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tfmetal::env {

struct Variable {
  const char* name;
  const char* fallback;  // used when unset or empty
  const char* help;
};

// What users set.
extern const Variable kDisable, kDeviceType, kDevices, kLog, kSync, kShim, kJitHook, kMemoryLimit,
    kCacheBytes, kOpsPerCommit, kBytesPerCommit, kGrappler, kDumpGraphs, kPoison, kMixedPrecision,
    kQuarantine;
// What users of TensorFlow's automatic mixed precision set.
extern const Variable kAllowlistAdd, kAllowlistRemove, kInferlistAdd, kInferlistRemove,
    kDenylistAdd, kDenylistRemove, kClearlistAdd, kClearlistRemove, kPrecisionLevel;
// What the plugin sets itself.
extern const Variable kLoaded, kStockMixedPrecision;
// What simulates a Mac on Linux; ignored on macOS.
extern const Variable kHostMacos, kHostChaos, kHostFail, kHostMemory, kHostGpus, kHostWrong;

const std::vector<const Variable*>& table();

// Read anew at each call, so that tests can change them; hot paths keep the answer.
std::string text(const Variable& variable);
bool flag(const Variable& variable);  // false for 0, false, off, no
long integer(const Variable& variable);
std::vector<std::string> words(const Variable& variable);  // between commas, none empty
std::vector<std::string> words(std::string_view text);

// The plugin's folder among the user's caches, by the system's own variables; empty when there is
// no home.
std::string cache_folder();

}  // namespace tfmetal::env

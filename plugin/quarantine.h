// What `python -m tensorflow_metal_py selftest` found wrong on this machine. A quarantined op and
// type is not registered, so that TensorFlow places it on the CPU, and is in no cluster; a
// quarantined fusion is switched off.
//
// The list is a JSON file for one build of macOS and one chip, read once, when the plugin is
// loaded. A file that cannot be read, or that is for another machine, is ignored with one warning.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <utility>

namespace tfmetal {

struct Quarantine {
  enum class State { kOff, kNone, kActive, kIgnored };
  State state = State::kNone;
  std::string path;                                   // of the file, there or not; empty when off
  std::string reason;                                 // why it is ignored
  std::set<std::pair<std::string, std::string>> ops;  // and the names of their types
  std::set<std::string> fusions;                      // "remapper/gelu", as in TF_METAL_GRAPPLER

  bool has(std::string_view op, std::string_view dtype) const {
    return !ops.empty() && ops.contains({std::string(op), std::string(dtype)});
  }
  // A setting of the graph passes without those that are quarantined.
  std::string restrict_passes(std::string setting) const;
};

// "24A335"; on Linux "host-" and the simulated version.
std::string macos_build();

// Of this process.
const Quarantine& quarantine();

// Reads the file in `folder`; "" is the user's cache folder, "off" none.
Quarantine read_quarantine(const std::string& folder);

}  // namespace tfmetal

#include "plugin/quarantine.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#ifdef __APPLE__
#include <sys/sysctl.h>
#endif

#include "plugin/device/device.h"
#include "plugin/env.h"
#include "plugin/error.h"
#include "plugin/loading.h"
#include "plugin/log.h"
#include "plugin/runtime_op.h"

namespace tfmetal {

namespace {

// Of the file. Raise it when its meaning changes; others are then ignored.
constexpr int64_t kFormat = 1;

std::string chip() {
  return !loading().active || Device::all().empty() ? "none" : Device::all()[0]->name();
}

// For a file name.
std::string plain(std::string text) {
  std::ranges::replace_if(text, [](unsigned char c) { return !std::isalnum(c) && c != '.'; }, '-');
  return text;
}

void expect(const json::Value& value, const std::string& ours, const char* what) {
  if (const std::string theirs = value.get<std::string>(); theirs != ours) {
    throw_invalid_argument("it is for ", what, " '", theirs, "', this is '", ours, "'");
  }
}

void parse(const std::string& text, Quarantine* into) {
  const json::Value file = json::parse(text);
  const int64_t* format = file["format"].as<int64_t>();
  if (!format || *format != kFormat) throw_invalid_argument("its format is not ", kFormat);
  expect(file["macos_build"], macos_build(), "macOS");
  expect(file["chip"], chip(), "the chip");
  for (const json::Value& row : file["ops"].get<json::Array>()) {
    into->ops.emplace(row["op"].get<std::string>(), row["dtype"].get<std::string>());
  }
  for (const json::Value& name : file["fusions"].get<json::Array>()) {
    into->fusions.insert(name.get<std::string>());
  }
}

const char* name_of(Quarantine::State state) {
  static const char* const kNames[] = {"off", "none", "active", "ignored"};
  return kNames[static_cast<int>(state)];
}

void report(const Quarantine& found) {
  if (found.state == Quarantine::State::kIgnored) {
    log_line(LogLevel::kWarning,
             concat("the quarantine file ", found.path, " is ignored: ", found.reason,
                    ". python -m tensorflow_metal_py selftest makes a new one"));
  } else if (found.state == Quarantine::State::kActive) {
    log_line(LogLevel::kWarning,
             concat("a selftest found ", found.ops.size(), " ops (by type) and ",
                    found.fusions.size(), " fusions wrong on this machine; they are not used. ",
                    "python -m tensorflow_metal_py doctor lists them"));
  }
}

const RuntimeCall kQuarantine(
    "quarantine", "what a selftest has banned; with a 'folder': what the file there says",
    [](const json::Value& request) -> json::Value {
      const std::string* folder = request["folder"].as<std::string>();
      const Quarantine found = folder ? read_quarantine(*folder) : quarantine();
      json::Array ops, fusions;
      for (const auto& [op, dtype] : found.ops) {
        ops.push_back(json::Object{{"op", op}, {"dtype", dtype}});
      }
      for (const std::string& name : found.fusions) fusions.push_back(name);
      return json::Object{{"state", name_of(found.state)},
                          {"reason", found.reason},
                          {"path", found.path},
                          {"format", kFormat},
                          {"macos_build", macos_build()},
                          {"chip", chip()},
                          {"ops", ops},
                          {"fusions", fusions}};
    });

}  // namespace

std::string macos_build() {
#ifdef __APPLE__
  char text[32] = "";
  size_t size = sizeof text;
  return sysctlbyname("kern.osversion", text, &size, nullptr, 0) == 0 ? text : "";
#else
  return "host-" + env::text(env::kHostMacos);
#endif
}

std::string Quarantine::restrict_passes(std::string setting) const {
  for (const std::string& name : fusions) setting += ",-" + name;
  return setting;
}

Quarantine read_quarantine(const std::string& folder) {
  Quarantine found;
  found.state = Quarantine::State::kOff;
  if (folder == "off" || folder == "0") return found;
  const std::filesystem::path base(folder.empty() ? env::cache_folder() : folder);
  if (base.empty()) return found;
  const std::string name = concat("quarantine_", plain(macos_build()), "_", plain(chip()), ".json");
  found.path = (base / name).string();
  found.state = Quarantine::State::kNone;
  std::ifstream file(found.path, std::ios::binary);
  if (!file) return found;
  try {
    parse(std::string(std::istreambuf_iterator<char>(file), {}), &found);
    found.state = Quarantine::State::kActive;
  } catch (const Error& error) {
    found.ops.clear();
    found.fusions.clear();
    found.reason = error.what();
    found.state = Quarantine::State::kIgnored;
  }
  return found;
}

const Quarantine& quarantine() {
  static const Quarantine& found = []() -> const Quarantine& {
    auto* read = new Quarantine(read_quarantine(env::text(env::kQuarantine)));
    report(*read);
    return *read;
  }();
  return found;
}

}  // namespace tfmetal

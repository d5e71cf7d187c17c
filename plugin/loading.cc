#include "plugin/loading.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <iterator>
#include <memory>
#include <string_view>

#include "plugin/device/device.h"
#include "plugin/env.h"
#include "plugin/error.h"
#include "plugin/log.h"
#include "plugin/tf_api.h"

namespace tfmetal {

namespace {

constexpr const char* kPlatformName = "METAL";
constexpr const char* kDeviceTypes[] = {"GPU", "METAL"};
// bfloat16, FFT and complex numbers in MPSGraph begin here.
constexpr MacosVersion kOldestMacos{14, 0};
// What Apple calls the library of tensorflow-metal.
constexpr const char* kOtherPlugin = "libmetal_plugin";

// ---- reasons to decline, in the order in which they are asked; "" means no objection ------------

std::string marker() { return concat(getpid(), ":", library_path()); }

// The path in the marker that an earlier copy left in this process, or "". A marker with our
// process id may also be left over from before an exec, so its library has to be loaded, too.
std::string earlier_copy() {
  const std::string mark = env::text(env::kLoaded);
  const std::string prefix = concat(getpid(), ":");
  if (mark.compare(0, prefix.size(), prefix) != 0) return "";
  const std::string path = mark.substr(prefix.size());
  const auto images = loaded_images();
  const bool loaded = std::find(images.begin(), images.end(), path) != images.end();
  return path != library_path() && loaded ? path : "";
}

std::string second_copy(Loading& loading) {
  static bool loaded_before = false;  // this very library, perhaps under another name
  const std::string other = loaded_before ? library_path() : earlier_copy();
  loaded_before = true;
  if (other.empty()) {
    setenv(env::kLoaded.name, marker().c_str(), 1);
    return "";
  }
  loading.second_copy = true;
  return concat("it is loaded already from ", other, ". Remove one of the two copies, or unset ",
                "TF_PLUGGABLE_DEVICE_LIBRARY_PATH");
}

std::string switched_off(Loading&) {
  if (!env::flag(env::kDisable)) return "";
  return concat(env::kDisable.name, " is set. Unset it to use the GPU");
}

std::string unknown_device_type(Loading& loading) {
  loading.type = env::text(env::kDeviceType);
  const bool known = std::find(std::begin(kDeviceTypes), std::end(kDeviceTypes), loading.type) !=
                     std::end(kDeviceTypes);
  if (known) return "";
  return concat(env::kDeviceType.name, " is '", loading.type, "'. Set it to GPU or METAL");
}

std::string missing_function(Loading&) {
  const char* missing = load_tf_api();
  if (!missing) return "";
  const char* version = tf.TF_Version ? tf.TF_Version() : "of unknown version";
  return concat("TensorFlow ", version, " lacks the function ", missing,
                ". Install TensorFlow 2.18 or newer, or update tensorflow-metal-py");
}

std::string other_plugin(Loading&) {
  for (const std::string& path : loaded_images()) {
    if (path.find(kOtherPlugin) == std::string::npos) continue;
    return concat("another Metal plugin is loaded: ", path,
                  ". Uninstall one of the two: pip uninstall tensorflow-metal");
  }
  return "";
}

std::string old_macos(Loading&) {
  const MacosVersion version = macos_version();
  if (version >= kOldestMacos) return "";
  return concat("macOS ", version.major, ".", version.minor, " is older than ", kOldestMacos.major,
                ".", kOldestMacos.minor, ". Update macOS, or uninstall tensorflow-metal-py");
}

// Whether TensorFlow itself has kernels for `type`. The buffer is a serialized KernelList, in which
// the device type of a KernelDef is field 2, a string.
bool has_stock_kernels(const std::string& type) {
  Status status;
  const std::unique_ptr<TF_Buffer, decltype(tf.TF_DeleteBuffer)> kernels(
      tf.TF_GetRegisteredKernelsForOp("MatMul", status), tf.TF_DeleteBuffer);
  status.check();
  const std::string_view list(static_cast<const char*>(kernels->data), kernels->length);
  return list.find(concat('\x12', static_cast<char>(type.size()), type)) != list.npos;
}

std::string stock_gpu_kernels(Loading& loading) {
  if (!has_stock_kernels(loading.type)) return "";
  return concat("this TensorFlow has kernels of its own for devices of type ", loading.type,
                " (CUDA or ROCm). Install tensorflow-cpu, or set ", env::kDeviceType.name,
                "=METAL to use this plugin as device METAL");
}

std::string no_device(Loading& loading) {
  loading.device_count = static_cast<int>(Device::all().size());
  if (loading.device_count > 0) return "";
  return "Metal offers no GPU here. Virtual machines and remote sessions may hide it; TensorFlow "
         "runs on the CPU";
}

constexpr std::string (*kObjections[])(Loading&) = {
    second_copy,  switched_off, unknown_device_type, missing_function,
    other_plugin, old_macos,    stock_gpu_kernels,   no_device};

std::string first_objection(Loading& loading) {
  try {
    for (auto objection : kObjections) {
      if (std::string reason = objection(loading); !reason.empty()) return reason;
    }
    return "";
  } catch (const std::exception& e) {
    return concat("of an unexpected error: ", e.what(), ". Please report it");
  } catch (...) {
    return "of an unknown error. Please report it";
  }
}

// One entry per load; never destroyed, and a deque keeps its elements in place.
std::deque<Loading>& loads() {
  static auto* all = new std::deque<Loading>;
  return *all;
}

// Platform and device type must not clash with anything, not even with a third copy's, and match
// TensorFlow's [A-Z][A-Z_]*: the address of `loading`, a letter for each hexadecimal digit.
std::string unused_name(const Loading& loading) {
  std::string name = "METAL_UNUSED_";
  for (auto rest = reinterpret_cast<uintptr_t>(&loading); rest != 0; rest >>= 4) {
    name += static_cast<char>('A' + (rest & 15));
  }
  return name;
}

}  // namespace

const Loading& begin_loading() {
  load_tf_api();  // even when declining: TensorFlow calls back what gets registered
  Loading& load = loads().emplace_back();
  load.reason = first_objection(load);
  load.active = load.reason.empty();
  if (load.active) {
    load.platform = kPlatformName;
  } else {
    load.platform = load.type = unused_name(load);
    load.device_count = 0;
    log_line(LogLevel::kWarning, concat("this copy of the plugin offers no GPU, because ",
                                        load.reason, ". (", library_path(), ")"));
  }
  return load;
}

const Loading& current_loading() { return loads().empty() ? loading() : loads().back(); }

const Loading& loading() {
  static const Loading kNever = [] {
    Loading load;
    load.reason = "TensorFlow has not initialised the plugin";
    return load;
  }();
  return loads().empty() ? kNever : loads().front();
}

const std::string& library_path() {
  static const std::string path = [] {
    Dl_info info;
    const bool found = dladdr(reinterpret_cast<const void*>(&library_path), &info) != 0;
    return std::string(found && info.dli_fname ? info.dli_fname : "");
  }();
  return path;
}

}  // namespace tfmetal

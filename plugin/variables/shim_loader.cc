#include "plugin/variables/shim_loader.h"

#include <dlfcn.h>

#include <filesystem>
#include <system_error>
#include <vector>

#include "plugin/env.h"
#include "plugin/error.h"
#include "plugin/log.h"
#include "plugin/tf_api.h"

#define TFMETAL_VARIABLE_API(X)              \
  X(TF_AssignVariable)                       \
  X(TF_AssignUpdateVariable)                 \
  X(TF_MaybeLockVariableInputMutexesInOrder) \
  X(TF_GetInputTensorFromVariable)           \
  X(TF_ReleaseVariableInputLockHolder)       \
  X(TF_AddNVariant)                          \
  X(TF_ZerosLikeVariant)

namespace tfmetal {

namespace {

namespace fs = std::filesystem;

#ifdef __APPLE__
constexpr char kExtension[] = ".dylib";
#else
constexpr char kExtension[] = ".so";
#endif

struct Decision {
  VariableMode mode;
  std::string reason;
};

bool exported_by_tensorflow() {
  bool all = true;
#define TFMETAL_CHECK(function) all = all && tf.function;
  TFMETAL_VARIABLE_API(TFMETAL_CHECK)
#undef TFMETAL_CHECK
  return all;
}

// "2.21.0" -> "2.21"
std::string minor_of(const std::string& version) {
  const size_t first = version.find('.');
  return version.substr(0, version.find('.', first + 1));
}

// Patch releases keep the C++ ABI that a shim depends on; nightlies do not keep anything.
bool fits(const std::string& built_for, const std::string& running) {
  const bool releases = (built_for + running).find('-') == std::string::npos;
  return releases ? minor_of(built_for) == minor_of(running) : built_for == running;
}

fs::path own_folder() {
  Dl_info info{};
  std::error_code error;
  if (!dladdr(reinterpret_cast<const void*>(&own_folder), &info) || !info.dli_fname) return {};
  const fs::path path = fs::absolute(info.dli_fname, error);
  return path.parent_path();
}

// Never in the plugin's own folder: TensorFlow loads every library in tensorflow-plugins/, and one
// that does not fit breaks `import tensorflow`.
std::vector<fs::path> candidates(const std::string& running) {
  const std::string setting = env::text(env::kShim);
  if (setting != "auto") return {fs::path(setting)};
  const std::string file = "libvariables-" + minor_of(running) + kExtension;
  const fs::path folder = own_folder();
  return {folder.parent_path() / "tensorflow_metal_py" / "_shims" / file, folder / "_shims" / file};
}

// Fills the pointers in `tf`. Returns why that failed, or nothing.
std::string load(const fs::path& path, const std::string& running) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) return dlerror();
  const auto built_for =
      reinterpret_cast<const char* (*)()>(dlsym(library, "tfmetal_shim_tf_version"));
  std::string failure;
  if (!built_for) {
    failure = concat(path.string(), " is no variable shim");
  } else if (!fits(built_for(), running)) {
    failure = concat(path.string(), " was built for TensorFlow ", built_for());
  }
  TfApi filled = tf;
#define TFMETAL_LOAD(function)                                                          \
  filled.function = reinterpret_cast<decltype(&::function)>(dlsym(library, #function)); \
  if (!filled.function && failure.empty()) failure = concat(path.string(), " lacks " #function);
  TFMETAL_VARIABLE_API(TFMETAL_LOAD)
#undef TFMETAL_LOAD
  if (failure.empty()) {
    tf = filled;
  } else {
    dlclose(library);
  }
  return failure;
}

Decision decide() {
  if (!tf.TF_Version) return {VariableMode::kSync, "no TensorFlow in this process"};
  const std::string running = tf.TF_Version();
  if (exported_by_tensorflow()) {
    return {VariableMode::kCApi, concat("exported by TensorFlow ", running)};
  }
  if (env::text(env::kShim) == "off") return {VariableMode::kSync, "TF_METAL_SHIM=off"};
  std::string tried;
  for (const fs::path& path : candidates(running)) {
    std::error_code error;
    std::string failure = concat(path.string(), " does not exist");
    if (fs::exists(path, error)) failure = load(path, running);
    if (failure.empty()) return {VariableMode::kShim, path.string()};
    tried += (tried.empty() ? "" : "; ") + failure;
  }
  return {VariableMode::kSync, tried};
}

const Decision& decision() {
  static const Decision made = [] {
    Decision result = decide();
    TFMETAL_LOG(kInfo, concat("variables: ", name(result.mode), " (", result.reason, ")"));
    if (result.mode == VariableMode::kSync && tf.TF_Version) {
      warn_once(concat("TensorFlow ", tf.TF_Version(),
                       " does not export its variable functions, and there is no shim for it: the "
                       "host waits for the GPU after every op, which is slow. Build the shim with "
                       "tools/build_shim.py, or install tensorflow-metal-py from source next to "
                       "this TensorFlow. Reason: ",
                       result.reason));
    }
    return result;
  }();
  return made;
}

}  // namespace

VariableMode variable_mode() { return decision().mode; }

const std::string& variable_mode_reason() { return decision().reason; }

const char* name(VariableMode mode) {
  switch (mode) {
    case VariableMode::kCApi:
      return "api";
    case VariableMode::kShim:
      return "shim";
    case VariableMode::kSync:
      break;
  }
  return "sync";
}

bool synchronous() {
  // Without TensorFlow (C++ tests) there are no stock kernels to protect.
  static const bool answer =
      env::flag(env::kSync) || (tf.TF_Version && variable_mode() == VariableMode::kSync);
  return answer;
}

}  // namespace tfmetal

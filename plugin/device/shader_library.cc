#include "plugin/device/shader_library.h"

#include <filesystem>

#include "kernels/shaders.h"
#include "plugin/device/device.h"
#include "plugin/error.h"
#include "plugin/loading.h"
#include "plugin/log.h"

namespace tfmetal {

namespace {

std::string reason(mtl::Error error) { return error ? error.description() : "no reason given"; }

// Null when there is no such file, or none to be used, about which it warns.
mtl::Ref<mtl::Library> prebuilt(mtl::Device device) {
  const auto path = std::filesystem::path(library_path()).parent_path() / kPrebuiltShaders;
  std::error_code none;
  if (!std::filesystem::exists(path, none)) return {};
  mtl::Error error;
  mtl::Ref<mtl::Library> library = device.new_library(ns::URL::file(path.string()), &error);
  const bool fits = library && library.new_function(kShaderStamp);
  if (fits) {
    log_line(LogLevel::kInfo, concat("shaders of ", path.string()));
    return library;
  }
  const std::string why = library ? "it is of other shaders" : reason(error);
  log_line(LogLevel::kWarning, concat(path.string(), " is not used: ", why,
                                      ". Reinstall tensorflow-metal-py, or delete the file"));
  return {};
}

}  // namespace

mtl::Ref<mtl::Library> shader_library(mtl::Device device) {
  if (mtl::Ref<mtl::Library> library = prebuilt(device)) return library;
  log_line(LogLevel::kInfo, "shaders are compiled now");
  const mtl::Ref<mtl::CompileOptions> options = mtl::CompileOptions::make();
  if (macos_version() >= MacosVersion{15, 0}) {
    options.set_math_mode(mtl::MathMode::Safe);
  } else {
    options.set_fast_math_enabled(false);
  }
  mtl::Error error;
  mtl::Ref<mtl::Library> library = device.new_library(kShaderSource, options, &error);
  if (!library) throw_internal("the shaders do not compile: ", reason(error));
  return library;
}

}  // namespace tfmetal

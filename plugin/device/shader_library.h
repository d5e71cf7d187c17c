// The one Metal library of all shaders in kernels/msl.
#pragma once

#include "plugin/metal/metal.h"

namespace tfmetal {

// Beside the plugin's library, where a build on a Mac with Xcode makes it.
inline constexpr const char* kPrebuiltShaders = "tensorflow_metal_py.metallib";

// That file, if it is there and was compiled from the shaders that this library carries; otherwise
// what Metal compiles of them now, with safe math. Needs an autorelease pool. Throws Internal when
// they do not compile.
mtl::Ref<mtl::Library> shader_library(mtl::Device device);

}  // namespace tfmetal

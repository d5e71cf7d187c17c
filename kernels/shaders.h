// The source of all shaders in kernels/msl, concatenated at build time into one library.
#pragma once

namespace tfmetal {

extern const char* const kShaderSource;

}  // namespace tfmetal

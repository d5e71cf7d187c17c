// The source of all shaders in kernels/msl, concatenated at build time into one library.
#pragma once

namespace tfmetal {

extern const char* const kShaderSource;
// The name of a kernel that nothing calls, in that source only: a library that has it was compiled
// from it.
extern const char* const kShaderStamp;

}  // namespace tfmetal

// Libraries, functions and pipelines: names of kernels that were compiled into this program.
#pragma once

#include "plugin/host/foundation.h"
#include "plugin/host/msl/kernel.h"

namespace host {

struct CompileOptions : Object {
  static constexpr const char* kClass = "MTLCompileOptions";
  bool safe_math = false;  // Apple's default is fast
};
struct Library : Object {
  static constexpr const char* kClass = "MTLLibrary";
  Library() = default;
  explicit Library(std::string s) : source(std::move(s)) {}
  std::string source;  // of a file; empty: the plugin's shaders
};
struct Function : Object {
  static constexpr const char* kClass = "MTLFunction";
  explicit Function(const msl::Kernel* k) : kernel(k) {}
  const msl::Kernel* kernel;
};
struct ComputePipelineState : Object {
  static constexpr const char* kClass = "MTLComputePipelineState";
  explicit ComputePipelineState(const msl::Kernel* k) : kernel(k) {}
  const msl::Kernel* kernel;
  // What a Mac allows depends on the registers that the shader needs; chaos mode says the least.
  unsigned max_threads() const;
};

// "Compiles" by looking up: `source` must be the plugin's shaders, or a part of them. Nil and an
// error otherwise. Retained by the caller, as are the following.
id new_library(id source, id options, void* error);
// A simulated file is Metal's magic number and the source that was compiled.
id library_of_file(id url, void* error);
id new_pipeline(id function, void* error);

}  // namespace host

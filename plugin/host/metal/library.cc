#include "plugin/host/metal/library.h"

#include <cstring>
#include <fstream>
#include <iterator>
#include <string_view>

#include "kernels/shaders.h"
#include "plugin/host/chaos.h"
#include "plugin/metal/metal.h"

namespace host {
namespace {

constexpr NSInteger kErrorUnsupported = 1;     // MTLLibraryErrorUnsupported
constexpr NSInteger kErrorCompileFailure = 3;  // MTLLibraryErrorCompileFailure
constexpr std::string_view kMagic = "MTLB";    // how a metallib begins

void set_error(void* error, NSInteger code, const std::string& text) {
  if (error) *static_cast<id*>(error) = make_autoreleased<Error>(code, text);
}

}  // namespace

id new_library(id source, id options, void* error) {
  auto* text = as<String>(source, "newLibraryWithSource: source");
  if (!text) abort_like_apple("newLibraryWithSource:options:error: source must not be nil");
  const auto* how = as<CompileOptions>(options, "newLibraryWithSource: options");
  if (!how || !how->safe_math) {
    abort_like_apple("newLibraryWithSource: the host computes with safe math; ask for it");
  }
  if (text->text.empty() || !std::strstr(tfmetal::kShaderSource, text->text.c_str())) {
    set_error(error, kErrorCompileFailure,
              "this Metal device runs only the shaders that were built into the plugin");
    return nullptr;
  }
  return make<Library>();
}

id library_of_file(id url, void* error) {
  auto* file = as<Url>(url, "newLibraryWithURL: url");
  if (!file) abort_like_apple("newLibraryWithURL:error: url must not be nil");
  std::ifstream stream(file->path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
  if (!bytes.starts_with(kMagic)) {
    set_error(error, kErrorUnsupported, "Invalid library file");
    return nullptr;
  }
  return make<Library>(bytes.substr(kMagic.size()));
}

unsigned ComputePipelineState::max_threads() const {
  constexpr unsigned kLeast = 256;
  return chaos_mode() ? kLeast : msl::kMaxThreadsPerGroup;
}

id new_pipeline(id function, void* error) {
  auto* f = as<Function>(function, "newComputePipelineStateWithFunction: function");
  if (f && !f->kernel) abort_like_apple("pipeline of a kernel that the host has not compiled");
  if (!f) abort_like_apple("newComputePipelineStateWithFunction:error: function must not be nil");
  return make<ComputePipelineState>(f->kernel);
}

HOST_CLASS(MTLCompileOptions, NSObject);
HOST_INIT(MTLCompileOptions, "init", []() -> id { return make<CompileOptions>(); });
HOST_METHOD(MTLCompileOptions,
            "setMathMode:", [](CompileOptions* self, mtl::MathMode mode) -> void {
              self->safe_math = mode == mtl::MathMode::Safe;
            });
HOST_METHOD(MTLCompileOptions, "setFastMathEnabled:", [](CompileOptions* self, bool on) -> void {
  self->safe_math = !on;
});

HOST_CLASS(MTLLibrary, NSObject);
HOST_METHOD(MTLLibrary, "newFunctionWithName:", [](Library* self, id name) -> id {
  auto* text = as<String>(name, "newFunctionWithName:");
  if (!text) abort_like_apple("newFunctionWithName: functionName must not be nil");
  const msl::Kernel* kernel = msl::find_kernel(text->text);
  if (self->source.empty()) return kernel ? make<Function>(kernel) : nullptr;
  const bool defined = self->source.find("kernel void " + text->text + "(") != std::string::npos ||
                       self->source.find("host_name(\"" + text->text + "\")") != std::string::npos;
  return defined ? make<Function>(kernel) : nullptr;
});

HOST_CLASS(MTLFunction, NSObject);

HOST_CLASS(MTLComputePipelineState, NSObject);
HOST_METHOD(MTLComputePipelineState, "maxTotalThreadsPerThreadgroup",
            [](ComputePipelineState* self) -> NSUInteger { return self->max_threads(); });
HOST_METHOD(MTLComputePipelineState, "threadExecutionWidth",
            [](Object*) -> NSUInteger { return msl::kSimdWidth; });

}  // namespace host

// The four functions that TensorFlow looks for in a plugin: all that this library exports.
#include <exception>

#include "grappler/optimizer.h"
#include "kernels/registration.h"
#include "plugin/device/platform.h"
#include "plugin/error.h"
#include "plugin/jit_hook.h"
#include "plugin/loading.h"
#include "plugin/log.h"
#include "plugin/profiler/profiler.h"
#include "plugin/runtime_op.h"
#include "plugin/tf_api.h"

#define TFMETAL_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using tfmetal::current_loading;

// No exception may reach TensorFlow, and a status that is not OK would abort the process.
template <class F>
void guarded(const char* entry, F run) {
  try {
    run();
  } catch (const std::exception& e) {
    tfmetal::log_line(tfmetal::LogLevel::kWarning, tfmetal::concat(entry, ": ", e.what()));
  } catch (...) {
    tfmetal::log_line(tfmetal::LogLevel::kWarning, tfmetal::concat(entry, ": unknown error"));
  }
}

}  // namespace

TFMETAL_EXPORT void SE_InitPlugin(SE_PlatformRegistrationParams* params, TF_Status*) {
  const tfmetal::Loading& load = tfmetal::begin_loading();
  guarded("SE_InitPlugin", [&] {
    tfmetal::fill_platform(params, load.device_count, load.platform.c_str(), load.type.c_str());
    if (load.active) tfmetal::install_jit_hook(load.type);
  });
}

TFMETAL_EXPORT void TF_InitKernel() {
  guarded("TF_InitKernel", [] {
    if (!current_loading().second_copy) tfmetal::register_runtime_op();
    if (current_loading().active) tfmetal::register_kernels(current_loading().type.c_str());
  });
}

TFMETAL_EXPORT void TF_InitGraph(TP_OptimizerRegistrationParams* params, TF_Status*) {
  guarded("TF_InitGraph", [&] { tfmetal::fill_optimizer(params, current_loading().type.c_str()); });
}

TFMETAL_EXPORT void TF_InitProfiler(TF_ProfilerRegistrationParams* params, TF_Status*) {
  guarded("TF_InitProfiler",
          [&] { tfmetal::fill_profiler(params, current_loading().type.c_str()); });
}

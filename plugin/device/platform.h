// What TensorFlow calls: the StreamExecutor C API on top of Device and Stream.
#pragma once

#include "plugin/tf_api.h"

namespace tfmetal {

// Registers `device_count` devices, no more than Device::all() has; 0 declines politely. `name` and
// `type` (capital letters and underscores) must outlive the process' use of the plugin.
void fill_platform(SE_PlatformRegistrationParams* params, int device_count, const char* name,
                   const char* type);

}  // namespace tfmetal

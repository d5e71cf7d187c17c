// Registers every row of the op table with TensorFlow.
#pragma once

namespace tfmetal {

// Called once, from TF_InitKernel.
void register_kernels(const char* device_type);

}  // namespace tfmetal

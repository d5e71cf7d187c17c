// Device memory as MPSGraph takes it.
#pragma once

#include "plugin/metal/mps_graph.h"

namespace tfmetal {

// Whether MPSGraph can begin inside of a buffer: since macOS 15.
bool takes_offsets();

// The tensor that begins at `offset` (in bytes), rows packed. Throws FailedPrecondition for an
// offset that this macOS does not take.
objc::Ref<mpsg::TensorData> tensor_data(mtl::Buffer buffer, size_t offset, ns::Array shape,
                                        mps::DataType type);

}  // namespace tfmetal

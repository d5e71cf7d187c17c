#include "kernels/tensor_data.h"

#include "plugin/device/device.h"
#include "plugin/error.h"

namespace tfmetal {

bool takes_offsets() {
  static const bool takes = macos_version() >= MacosVersion{15, 0};
  return takes;
}

objc::Ref<mpsg::TensorData> tensor_data(mtl::Buffer buffer, size_t offset, ns::Array shape,
                                        mps::DataType type) {
  if (offset == 0) return mpsg::TensorData::make(buffer, shape, type);
  if (!takes_offsets()) throw_failed_precondition("offsets into buffers need macOS 15");
  const auto descriptor = mps::NDArrayDescriptor::make(type, shape);
  descriptor.set_prefer_packed_rows(true);
  return mpsg::TensorData::make(mps::NDArray::make(buffer, offset, descriptor));
}

}  // namespace tfmetal

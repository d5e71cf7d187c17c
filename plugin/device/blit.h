// Copies and fills within a command buffer, by Metal's blits and, where these may not be used, by
// shaders.
#pragma once

#include "plugin/device/device.h"
#include "plugin/device/label.h"
#include "plugin/metal/mps.h"

namespace tfmetal {

// The ranges must not overlap; `size` and offsets are in bytes and may be anything.
void encode_copy(Device& device, mps::CommandBuffer buffer, const Label& label, BufferSlice to,
                 BufferSlice from, size_t size);
void encode_fill(Device& device, mps::CommandBuffer buffer, const Label& label, BufferSlice to,
                 uint8_t value, size_t size);
// By a pattern: offset and size are multiples of 4.
void encode_fill32(Device& device, mps::CommandBuffer buffer, const Label& label, BufferSlice to,
                   uint32_t value, size_t size);

// Of copies that belong to no op.
const Label& copy_label();

}  // namespace tfmetal

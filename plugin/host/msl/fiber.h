// Where the threads of a threadgroup meet. Only for code generated from shaders.
#pragma once

#include <cstddef>
#include <cstdint>

namespace host::msl {

constexpr size_t kMaxLaneBytes = 16;  // of a value that SIMD groups exchange (a float4)

// What the lanes of a SIMD group brought to an operation.
struct Lanes {
  const char (*values)[kMaxLaneBytes];  // by lane
  uint32_t active;                      // bit i: lane i takes part
  uint32_t lane;                        // the caller
};

// Memory whose accesses a barrier orders: bits.
enum Memory : unsigned { kNoMemory = 0, kDeviceMemory = 1, kThreadgroupMemory = 2 };

// Returns when all threads of the group have called it. Aborts when one has left the kernel or
// waits elsewhere (`line` tells places apart).
void barrier(Memory ordered, int line);
// ThreadSanitizer knows one order for all memory. From now on, only barriers that order this count:
// its reports are then true of this memory, and mean nothing for the other.
void look_at(Memory memory);
// The same among the threads of a SIMD group that have not left the kernel.
Lanes exchange(const void* value, size_t size, int line);

}  // namespace host::msl

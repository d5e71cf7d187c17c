// Shaders compiled as C++ (tools/msl_to_cpp.py): their registry and their launch.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "plugin/host/mps_graph/isa.h"

namespace host::msl {

constexpr unsigned kMaxBuffers = 31;            // arguments of a kernel
constexpr unsigned kSimdWidth = 32;             // threads of a SIMD group
constexpr unsigned kMaxThreadsPerGroup = 1024;  // what every Apple GPU offers
constexpr size_t kMaxThreadgroupMemory = 32768;

struct Size3 {
  uint32_t x, y, z;
  uint32_t count() const { return x * y * z; }
};

// What a thread knows of its place: the attributes of a kernel's parameters.
struct Thread {
  Size3 position, position_in_group, group;  // group: position of its group
  Size3 group_size;                          // of this group; smaller at the edge of the grid
  Size3 nominal_group_size, grid, groups;
  uint32_t index_in_group;
  void* const* shared;  // memory of the [[threadgroup(i)]] parameters
};

struct Parameter {
  unsigned index;
  size_t size, alignment;  // of one element
  bool threadgroup;        // else a buffer
  bool written;            // a buffer whose elements are not const
};

struct Kernel {
  const char* name;
  std::vector<Parameter> parameters;
  // Runs all threads of one group; `first` is its thread 0.
  void (*run_group)(void* const* buffers, const Thread& first);
  bool ungrouped = false;  // its threads know nothing of their group
};

void register_kernel(Kernel kernel);
const Kernel* find_kernel(std::string_view name);  // null when unknown

struct Launch {
  Size3 grid;        // threads
  Size3 group_size;  // threads per group
  std::array<void*, kMaxBuffers> buffers;
  std::vector<size_t> threadgroup_lengths;  // bytes, by index
};

// Runs every thread of the grid, groups spread over the CPU when there are many threads.
void launch(const Kernel& kernel, const Launch& launch);

// ---- what generated code is made of -------------------------------------------------------------

using ThreadFunction = void (*)(void* const* buffers, const Thread& thread);

// The thread of index i of the group that `first` begins.
inline Thread thread_of(const Thread& first, uint32_t i) {
  Thread t = first;
  const Size3 in_group{i % first.group_size.x, i / first.group_size.x % first.group_size.y,
                       i / (first.group_size.x * first.group_size.y)};
  t.position_in_group = in_group;
  t.position = {first.position.x + in_group.x, first.position.y + in_group.y,
                first.position.z + in_group.z};
  t.index_in_group = i;
  return t;
}

// Kernels without barriers: a loop over the threads. F holds the arguments.
template <class F>
void run_independent(void* const* buffers, const Thread& first) {
  const F run(buffers);
  Thread t = first;
  for (uint32_t z = 0; z < first.group_size.z; ++z) {
    for (uint32_t y = 0; y < first.group_size.y; ++y) {
      for (uint32_t x = 0; x < first.group_size.x; ++x, ++t.index_in_group) {
        t.position_in_group = {x, y, z};
        t.position = {first.position.x + x, first.position.y + y, first.position.z + z};
        run(t);
      }
    }
  }
}

// Kernels that address memory with lane() (kernels/msl/lane.h): the threads along x run in vectors.
// Threads of a grid promise each other nothing, so there is no dependence between them; the index
// is an int because one that may wrap around would keep the compiler from vectorising.
template <class F>
void run_lanes(void* const* buffers, const Thread& first) {
  host::isa::run(
      [](void* const* arguments, const Thread* origin) {
        const F run(arguments);
        const Thread start = *origin;
        const int x_begin = static_cast<int>(start.position.x);
        const int count = static_cast<int>(start.group_size.x);
        for (uint32_t z = 0; z < start.group_size.z; ++z) {
          for (uint32_t y = 0; y < start.group_size.y; ++y) {
            const uint32_t row = (z * start.group_size.y + y) * start.group_size.x;
#if !defined(__clang__)
#pragma GCC ivdep
#endif
            for (int x = 0; x < count; ++x) {
              Thread t = start;
              t.position_in_group = {static_cast<uint32_t>(x), y, z};
              t.position = {static_cast<uint32_t>(x_begin + x), start.position.y + y,
                            start.position.z + z};
              t.index_in_group = row + static_cast<uint32_t>(x);
              run(t);
            }
          }
        }
      },
      buffers, &first);
}

// Kernels whose threads meet: every thread is a fiber.
void run_fibers(ThreadFunction function, void* const* buffers, const Thread& first);
template <ThreadFunction F>
void run_synchronized(void* const* buffers, const Thread& first) {
  run_fibers(F, buffers, first);
}

struct KernelRegistration {
  explicit KernelRegistration(Kernel kernel) { register_kernel(static_cast<Kernel&&>(kernel)); }
};

}  // namespace host::msl

#include "plugin/host/msl/kernel.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <string>

#include "plugin/host/chaos.h"
#include "plugin/host/host.h"
#include "plugin/host/msl/names.h"
#include "plugin/host/parallel.h"

namespace host::msl {
namespace {

// Threads of a grid below which a second CPU thread is not worth waking.
constexpr size_t kThreadsPerPart = 8192;
// The same in time, where threads do more than that number says.
constexpr std::chrono::nanoseconds kPartTime{15000};

using Registry = std::map<std::string, Kernel, std::less<>>;
Registry& registry() {
  static auto* const all = new Registry;
  return *all;
}

uint32_t groups_along(uint32_t threads, uint32_t group) { return (threads + group - 1) / group; }
uint32_t extent(uint32_t grid, uint32_t group, uint32_t i) {
  return std::min(group, grid - i * group);
}

// Memory of the [[threadgroup(i)]] parameters, one set for each part of a launch.
class ThreadgroupMemory {
 public:
  explicit ThreadgroupMemory(const std::vector<size_t>& lengths) {
    for (size_t length : lengths) {
      blocks_.emplace_back((length + 15) / 16);
      pointers_.push_back(blocks_.back().data());
    }
  }
  // Its content is undefined when a group begins.
  void forget() {
    for (auto& block : blocks_) std::memset(block.data(), kPoisonByte, block.size() * 16);
  }
  void* const* pointers() const { return pointers_.data(); }

 private:
  struct alignas(16) Chunk {
    char bytes[16];
  };
  std::vector<std::vector<Chunk>> blocks_;
  std::vector<void*> pointers_;
};

}  // namespace

void register_kernel(Kernel kernel) {
  const std::string name = kernel.name;
  if (!registry().emplace(name, std::move(kernel)).second) {
    abort_like_apple("two kernels are named " + name);
  }
}

const Kernel* find_kernel(std::string_view name) {
  const auto found = registry().find(name);
  return found == registry().end() ? nullptr : &found->second;
}

std::vector<std::string> kernel_names() {
  std::vector<std::string> names;
  for (const auto& [name, kernel] : registry()) names.emplace_back(name);
  return names;
}

// Groups of more threads, which cost less, but enough of them for all CPU threads.
static Size3 larger_groups(Size3 grid, Size3 size) {
  constexpr size_t kGroups = 32;
  const size_t threads = size_t{grid.x} * grid.y * grid.z;
  const auto most = static_cast<uint32_t>(std::min(threads / kGroups, kThreadsPerPart));
  if (most <= size.count()) return size;
  const uint32_t x = std::min(grid.x, most), y = std::min(grid.y, most / x);
  return {x, y, std::min(grid.z, most / (x * y))};
}

void launch(const Kernel& kernel, const Launch& launch) {
  const Size3 grid = launch.grid;
  const Size3 size = kernel.ungrouped ? larger_groups(grid, launch.group_size) : launch.group_size;
  const Size3 groups{groups_along(grid.x, size.x), groups_along(grid.y, size.y),
                     groups_along(grid.z, size.z)};
  const size_t total = size_t{groups.x} * groups.y * groups.z;
  auto run = [&](size_t begin, size_t end) {
    ThreadgroupMemory memory(launch.threadgroup_lengths);
    for (size_t g = begin; g < end; ++g) {
      Thread first{};
      first.group = {static_cast<uint32_t>(g % groups.x),
                     static_cast<uint32_t>(g / groups.x % groups.y),
                     static_cast<uint32_t>(g / groups.x / groups.y)};
      first.position = {first.group.x * size.x, first.group.y * size.y, first.group.z * size.z};
      first.group_size = {extent(grid.x, size.x, first.group.x),
                          extent(grid.y, size.y, first.group.y),
                          extent(grid.z, size.z, first.group.z)};
      first.nominal_group_size = size;
      first.grid = grid;
      first.groups = groups;
      memory.forget();
      first.shared = memory.pointers();
      kernel.run_group(launch.buffers.data(), first);
    }
  };
  const size_t grain = std::max<size_t>(1, kThreadsPerPart / size.count());
  if (total == 1 || total > grain) return parallel_for(total, grain, run);
  // Few threads, but each may do much: the first group tells.
  const auto start = std::chrono::steady_clock::now();
  run(0, 1);
  const std::chrono::nanoseconds spent = std::chrono::steady_clock::now() - start;
  const size_t worth =
      static_cast<size_t>(kPartTime / std::max(spent, std::chrono::nanoseconds(1)));
  parallel_for(total - 1, std::clamp<size_t>(worth, 1, grain),
               [&](size_t begin, size_t end) { run(begin + 1, end + 1); });
}

}  // namespace host::msl

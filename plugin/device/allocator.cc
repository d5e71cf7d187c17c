#include "plugin/device/allocator.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "plugin/device/timeline.h"
#include "plugin/env.h"
#include "plugin/error.h"
#include "plugin/log.h"

namespace tfmetal {

namespace {

// Small tensors share one class: MPSGraph wants slack behind short rows, and a block costs more in
// bookkeeping than in bytes.
constexpr size_t kSmallestBlock = 256;
// Classes per doubling of the size: a block is at most 1/8 larger than asked for.
constexpr size_t kClassesPerDoubling = 8;
// Beyond 8 * this, classes are this far apart: huge tensors are few and come back at the same size.
constexpr size_t kLargestStep = size_t{8} << 20;
// How much may be reserved, used or not, before blocks kept for reuse go back to Metal, the longest
// unused first: a share of the limit, which leaves room for MPSGraph's own scratch memory; and a
// multiple of what was ever in use, so that sizes that never come back do not pile up.
constexpr double kReservedShareOfLimit = 0.85;
constexpr double kReservedPerPeak = 1.5;
constexpr uint64_t kReservedAnyway = uint64_t{64} << 20;
// They go until this share of that amount is left, so that not every allocation trims.
constexpr double kTrimTo = 0.9;

constexpr unsigned char kPoisonByte = 0xff;  // a NaN in every floating-point format

// A per-thread cache of lookups, direct-mapped by page: a kernel sees the same few tensors again.
constexpr size_t kCachedLookups = 64;
constexpr int kLookupPageBits = 8;
struct CachedLookup {
  const Allocator* allocator = nullptr;
  uint64_t generation = 0;
  const char* begin = nullptr;
  const char* end = nullptr;
  Block* block = nullptr;
};
thread_local std::array<CachedLookup, kCachedLookups> lookups;

// Process-wide, so that an allocator never takes another one's cache entries for its own.
uint64_t next_generation() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

CachedLookup& cached_lookup(const void* pointer) {
  const uint64_t page = reinterpret_cast<uintptr_t>(pointer) >> kLookupPageBits;
  // Fibonacci hashing: blocks start at round addresses.
  return lookups[(page * 0x9E3779B97F4A7C15ull) >> (64 - std::bit_width(kCachedLookups - 1))];
}

}  // namespace

Allocator::Allocator(mtl::Device device, uint64_t limit)
    : device_(device),
      limit_(limit),
      max_buffer_(device.max_buffer_length()),
      poison_(env::flag(env::kPoison)),
      generation_(next_generation()) {
  info_.limit = static_cast<int64_t>(limit);
}

Allocator::~Allocator() {
  for (auto& [begin, block] : live_) delete block;
  for (auto& [size, blocks] : free_) {
    for (Block* block : blocks) delete block;
  }
}

size_t Allocator::size_class(size_t bytes) {
  if (bytes <= kSmallestBlock) return kSmallestBlock;
  const size_t step =
      std::clamp(std::bit_floor(bytes - 1) / kClassesPerDoubling, kSmallestBlock, kLargestStep);
  return (bytes + step - 1) / step * step;
}

void* Allocator::allocate(size_t bytes, Use use) {
  if (forked()) {
    warn_once(kForkedMessage);
    return nullptr;
  }
  if (bytes > max_buffer_) {  // also keeps size_class() from overflowing
    report_exhaustion(bytes);
    return nullptr;
  }
  const size_t size = size_class(bytes);
  Block* block = take_free(size, use);
  if (!block) block = make(size);
  if (!block) {
    report_exhaustion(bytes);
    return nullptr;
  }
  if (poison_) poison(*block);
  block->requested = bytes;
  std::lock_guard lock(mutex_);
  block->live = true;
  live_.emplace(block->contents, block);
  info_.in_use += static_cast<int64_t>(block->size);
  info_.peak = std::max(info_.peak, info_.in_use);
  high_water_ = std::max(high_water_, info_.in_use);
  info_.largest = std::max(info_.largest, static_cast<int64_t>(bytes));
  ++info_.allocations;
  return block->contents;
}

void Allocator::deallocate(void* pointer) {
  if (!pointer || forked()) return;
  Block* block = nullptr;
  {
    std::lock_guard lock(mutex_);
    auto it = live_.find(static_cast<const char*>(pointer));
    if (it != live_.end()) {
      block = it->second;
      block->live = false;
      live_.erase(it);
      info_.in_use -= static_cast<int64_t>(block->size);
    }
  }
  if (!block) {
    log_line(LogLevel::kWarning,
             concat("error: ", pointer, " was freed, but is no live block of this device"));
    return;
  }
  if (poison_) poison(*block);
  std::lock_guard lock(mutex_);
  block->freed = ++frees_;
  free_[block->size].push_back(block);
}

Block* Allocator::find(const void* pointer) const {
  CachedLookup& cached = cached_lookup(pointer);
  const char* const address = static_cast<const char*>(pointer);
  if (cached.allocator == this && address >= cached.begin && address < cached.end &&
      cached.generation == generation_.load(std::memory_order_acquire) &&
      cached.block->live.load(std::memory_order_acquire)) {
    return cached.block;
  }
  check_not_forked();
  std::shared_lock lock(mutex_);
  auto next = live_.upper_bound(address);
  if (next == live_.begin()) return nullptr;
  Block* block = std::prev(next)->second;
  if (address >= block->contents + block->size) return nullptr;
  cached = {this, generation_.load(), block->contents, block->contents + block->size, block};
  return block;
}

BufferSlice Allocator::resolve(const void* pointer) const {
  Block* block = find(pointer);
  if (!block) throw_internal("address ", pointer, " is not memory of the Metal device");
  return {block, static_cast<size_t>(static_cast<const char*>(pointer) - block->contents)};
}

bool Allocator::owns(const void* pointer) const { return find(pointer) != nullptr; }

MemoryInfo Allocator::info() const {
  if (forked()) return {};
  std::shared_lock lock(mutex_);
  return info_;
}

void Allocator::reset_peak() {
  std::lock_guard lock(mutex_);
  info_.peak = info_.in_use;
}

void Allocator::trim() { release_until(0); }

Block* Allocator::take_free(size_t size, Use use) {
  std::lock_guard lock(mutex_);
  const auto entry = free_.find(size);
  if (entry == free_.end()) return nullptr;
  std::vector<Block*>& blocks = entry->second;
  // The last one freed is likely still in a cache.
  const auto block = std::find_if(blocks.rbegin(), blocks.rend(), [&](const Block* candidate) {
    return use == Use::kOrdered || reached(last_use_of(*candidate));
  });
  if (block == blocks.rend()) return nullptr;
  Block* const taken = *block;
  blocks.erase(std::next(block).base());
  return taken;
}

// Counts `size` as reserved unless that exceeds the limit.
bool Allocator::reserve(size_t size) {
  std::lock_guard lock(mutex_);
  if (static_cast<uint64_t>(info_.reserved) + size > limit_) return false;
  info_.reserved += static_cast<int64_t>(size);
  return true;
}

// Before `size` more bytes are reserved.
void Allocator::trim_above_watermark(size_t size) {
  double watermark, reserved;
  {
    std::shared_lock lock(mutex_);
    const double peak = std::max(static_cast<double>(high_water_) * kReservedPerPeak,
                                 static_cast<double>(kReservedAnyway));
    watermark = std::min(static_cast<double>(limit_) * kReservedShareOfLimit, peak);
    reserved = static_cast<double>(info_.reserved) + static_cast<double>(size);
  }
  if (reserved <= watermark) return;
  const double target = watermark * kTrimTo - static_cast<double>(size);
  release_until(target > 0 ? static_cast<uint64_t>(target) : 0);
}

Block* Allocator::make(size_t size) {
  const ns::AutoreleasePool pool;
  trim_above_watermark(size);
  // First as it is; then without idle blocks; then without those that queued work still uses.
  for (int attempt = 0; attempt < 3; ++attempt) {
    if (attempt == 2) wait_for_free_blocks();
    if (attempt > 0) trim();
    if (!reserve(size)) continue;
    mtl::Ref<mtl::Buffer> buffer = device_.new_buffer(size);
    if (buffer) {
      auto* block = new Block;
      block->contents = static_cast<char*>(buffer.contents());
      block->buffer = std::move(buffer);
      block->size = size;
      return block;
    }
    std::lock_guard lock(mutex_);
    info_.reserved -= static_cast<int64_t>(size);
  }
  return nullptr;
}

// Gives idle blocks back to Metal, the longest unused first, until `reserved` is met.
void Allocator::release_until(uint64_t reserved) {
  const ns::AutoreleasePool pool;
  std::vector<Block*> released;
  {
    std::lock_guard lock(mutex_);
    std::vector<Block*> idle;
    for (auto& [size, blocks] : free_) {
      for (Block* block : blocks) {
        if (reached(last_use_of(*block))) idle.push_back(block);
      }
    }
    std::sort(idle.begin(), idle.end(), [](Block* a, Block* b) { return a->freed < b->freed; });
    for (Block* block : idle) {
      if (static_cast<uint64_t>(info_.reserved) <= reserved) break;
      block->freed = 0;
      info_.reserved -= static_cast<int64_t>(block->size);
      released.push_back(block);
    }
    if (released.empty()) return;
    generation_ = next_generation();
    for (auto& [size, blocks] : free_) {
      std::erase_if(blocks, [](const Block* block) { return block->freed == 0; });
    }
  }
  for (Block* block : released) delete block;
}

void Allocator::wait_for_free_blocks() {
  if (encoding_on_this_thread()) return;
  std::vector<Ticket> tickets;
  {
    std::lock_guard lock(mutex_);
    for (auto& [size, blocks] : free_) {
      for (Block* block : blocks) tickets.push_back(last_use_of(*block));
    }
  }
  for (const Ticket& ticket : tickets) {
    if (!reached(ticket)) ticket.timeline->wait(ticket.value);
  }
}

// For tests: NaNs where a kernel reads what was never written, or was freed. Never while queued
// work may use the block: then the device writes them, in order.
void Allocator::poison(Block& block) {
  if (reached(last_use_of(block))) {
    std::memset(block.contents, kPoisonByte, block.size);
  } else if (!encoding_on_this_thread()) {
    fill_after_last_use(block, kPoisonByte);
  }
}

void Allocator::report_exhaustion(size_t bytes) const {
  const MemoryInfo now = info();
  log_line(LogLevel::kWarning,
           concat("out of device memory: ", bytes, " bytes requested, ", now.in_use, " in use, ",
                  now.reserved - now.in_use, " kept for reuse, limit ", now.limit, " (",
                  env::kMemoryLimit.name, "), largest buffer ", max_buffer_));
}

}  // namespace tfmetal

// Device memory: one MTLBuffer per block, size classes, reuse fenced by command buffers.
//
// TensorFlow frees a block as soon as the last host reference drops, while queued work still uses
// it. A freed block therefore keeps the ticket of its last use. Handing it out again is always
// safe for the stream of that ticket; every other user (a copy on another stream, the host) waits
// for the ticket first: Block::last_use is consulted at each use, not at allocation.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "plugin/metal/metal.h"

namespace tfmetal {

class Timeline;

// A point on a stream's timeline: reached when the command buffer that carries it completed, be it
// with an error. Timelines live as long as their device, so a ticket outlives its stream.
struct Ticket {
  Timeline* timeline = nullptr;  // null: reached
  uint64_t value = 0;
};

struct Block {
  mtl::Ref<mtl::Buffer> buffer;
  char* contents = nullptr;
  size_t size = 0;       // of the buffer: the size class
  size_t requested = 0;  // what TensorFlow asked for
  Ticket last_use;       // guarded by a process-wide lock: last_use_of(), Timeline::encode()
  uint64_t freed = 0;    // a clock of frees, from 1: the order in which blocks go back to Metal
  std::atomic<bool> live{false};
};

// Where a tensor's data is: TensorFlow hands out pointers into blocks (slices of a tensor).
struct BufferSlice {
  Block* block = nullptr;
  size_t offset = 0;
  mtl::Buffer buffer() const { return block->buffer; }
  char* contents() const { return block->contents + offset; }
};

// Bytes, except `allocations`. `in_use` and `reserved` count whole blocks; `reserved` includes
// those kept for reuse. `largest` is the largest request.
struct MemoryInfo {
  int64_t in_use = 0, peak = 0, reserved = 0, limit = 0, allocations = 0, largest = 0;
};

// Safe from any thread.
class Allocator {
 public:
  // `limit` in bytes.
  Allocator(mtl::Device device, uint64_t limit);
  ~Allocator();

  // Zero bytes give a valid pointer. nullptr when the limit or Metal's memory is exhausted, after
  // unused blocks were given back; a warning then says how much is in use.
  void* allocate(size_t bytes) { return allocate(bytes, Use::kOrdered); }
  // A block that no queued work uses: the host may write to it at once.
  void* allocate_idle(size_t bytes) { return allocate(bytes, Use::kIdle); }
  // A pointer that is not (or no longer) a block of this device is reported and left alone.
  void deallocate(void* pointer);

  // Throws Internal when `pointer` is not device memory of this device.
  BufferSlice resolve(const void* pointer) const;
  bool owns(const void* pointer) const;

  MemoryInfo info() const;
  void reset_peak();
  // Gives blocks that nothing uses back to Metal.
  void trim();

  // The size of the block that serves a request: at most 1/8 more, beyond the smallest class.
  static size_t size_class(size_t bytes);

 private:
  enum class Use { kOrdered, kIdle };
  void* allocate(size_t bytes, Use use);
  Block* find(const void* pointer) const;
  Block* take_free(size_t size, Use use);
  Block* make(size_t size);
  bool reserve(size_t size);
  void trim_above_watermark(size_t size);
  void release_until(uint64_t reserved);
  void wait_for_free_blocks();
  void poison(Block& block);
  void report_exhaustion(size_t bytes) const;

  mtl::Device device_;
  const uint64_t limit_;
  const uint64_t max_buffer_;
  const bool poison_;
  mutable std::shared_mutex mutex_;
  std::map<const char*, Block*> live_;                    // by first byte
  std::unordered_map<size_t, std::vector<Block*>> free_;  // by size class
  MemoryInfo info_;
  int64_t high_water_ = 0;  // the largest info_.in_use of all time
  uint64_t frees_ = 0;
  // Changes when a block is destroyed: the threads' lookup caches are void then.
  std::atomic<uint64_t> generation_;
};

}  // namespace tfmetal

// Device memory: one MTLBuffer per block, size classes, reuse fenced by command buffers.
//
// TensorFlow frees a block as soon as the last host reference drops, while queued work still uses
// it. A freed block therefore keeps the ticket of its last use. Handing it out again is always
// safe for the stream of that ticket; every other user (a copy on another stream, the host) waits
// for the ticket first: Block::last_use is consulted at each use, not at allocation.
#pragma once

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

class Stream;

// A point on a stream's timeline: reached when the command buffer that carries it completed.
struct Ticket {
  Stream* stream = nullptr;
  uint64_t value = 0;
};

struct Block {
  mtl::Ref<mtl::Buffer> buffer;
  char* contents = nullptr;
  size_t size = 0;       // of the buffer: the size class
  size_t requested = 0;  // what TensorFlow asked for
  Ticket last_use;       // guarded by the device's mutex
};

// Where a tensor's data is: TensorFlow hands out pointers into blocks (slices of a tensor).
struct BufferSlice {
  Block* block = nullptr;
  size_t offset = 0;
  mtl::Buffer buffer() const { return block->buffer; }
  char* contents() const { return block->contents + offset; }
};

struct MemoryInfo {
  int64_t in_use = 0, peak = 0, reserved = 0, limit = 0, allocations = 0, largest = 0;
};

class Allocator {
 public:
  Allocator(mtl::Device device, uint64_t limit);
  ~Allocator();

  // nullptr when the limit or Metal's memory is exhausted, after unused blocks were given back.
  void* allocate(size_t bytes);
  void deallocate(void* pointer);

  // Throws Internal when `pointer` is not device memory of this device.
  BufferSlice resolve(const void* pointer) const;
  bool owns(const void* pointer) const;

  MemoryInfo info() const;
  void reset_peak();
  // Gives blocks that nothing uses back to Metal.
  void trim();

 private:
  Block* take_free(size_t size_class);
  Block* make(size_t size_class);

  mtl::Device device_;
  const uint64_t limit_;
  const bool poison_;
  mutable std::shared_mutex mutex_;
  std::map<const char*, Block*> live_;                    // by first byte
  std::unordered_map<size_t, std::vector<Block*>> free_;  // by size class
  MemoryInfo info_;
};

}  // namespace tfmetal

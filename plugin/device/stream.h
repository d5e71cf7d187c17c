// A stream of device work: an MTLCommandQueue, the command buffer being filled, and its timeline.
//
// Work is always asynchronous. Each commit signals the stream's shared event with the next ticket
// value; TensorFlow events, dependencies between streams and waits of the host are all tickets.
// Commit rules: an idle queue commits at once; otherwise the buffer fills up to
// TF_METAL_OPS_PER_COMMIT ops or TF_METAL_BYTES_PER_COMMIT bytes; events, dependencies, callbacks
// and waits commit what is open; a completed buffer commits what has been filled meanwhile.
//
// Errors: a failed command buffer poisons its stream. The next copy to the host that depends on the
// stream, or the next kernel on it, raises the poison once, naming the ops, and clears it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "plugin/device/allocator.h"
#include "plugin/error.h"
#include "plugin/metal/mps.h"

namespace tfmetal {

class Device;

// What one encode tells the stream.
struct EncodeInfo {
  const std::string* label;           // op and node name; outlives the stream (interned)
  std::span<const BufferSlice> uses;  // every block that the work reads or writes
  size_t bytes = 0;                   // touched, for the commit rule
  int dispatches = 1;                 // encodes to count
};

class Stream {
 public:
  explicit Stream(Device& device);
  ~Stream();  // waits for what is queued

  Device& device() const { return device_; }

  // Calls `encode` with the open command buffer, under the device's lock and in an autorelease
  // pool. Throws the stream's poison instead if there is one. An exception from `encode` leaves
  // the stream usable.
  void encode(const EncodeInfo& info, const std::function<void(mps::CommandBuffer)>& encode);

  // Commits what is open and returns the ticket that covers all work given so far.
  Ticket record();
  // Work given from now on starts after `ticket`.
  void wait_for(Ticket ticket);
  // Calls `callback` on another thread when the work given so far is done; later work waits for it.
  void host_callback(std::function<void()> callback);

  // Commits, waits until all given work and all that it waits for is done; returns the poison that
  // this uncovers and clears it.
  std::optional<Error> synchronize();
  // The same for everything up to `ticket`, wherever it is.
  static std::optional<Error> synchronize(Ticket ticket);

  bool reached(uint64_t value) const;  // also true when that command buffer failed

  // Ordered copies (sizes in bytes). `copy_to_host` waits.
  void copy_from_host(BufferSlice to, const void* from, size_t size);
  std::optional<Error> copy_to_host(void* to, BufferSlice from, size_t size);
  void copy(BufferSlice to, BufferSlice from, size_t size);
  void fill(BufferSlice to, uint8_t value, size_t size);
  void fill32(BufferSlice to, uint32_t value, size_t size);

  std::optional<Error> take_poison();

 private:
  struct Impl;
  Device& device_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tfmetal

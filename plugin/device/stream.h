// A stream of device work as TensorFlow sees it.
//
// Work is always asynchronous. Each commit signals the stream's shared event with the next ticket
// value; TensorFlow events, dependencies between streams and waits of the host are all tickets.
// Commit rules: while fewer than two buffers are in flight every op commits at once; otherwise the
// buffer fills up to TF_METAL_OPS_PER_COMMIT ops or TF_METAL_BYTES_PER_COMMIT bytes; events,
// dependencies, callbacks and waits commit what is open; a completed buffer commits what has been
// filled meanwhile.
//
// Errors: a failed command buffer poisons its stream. The next copy to the host that depends on the
// stream, or the next kernel on it, raises the poison once, naming the ops, and clears it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "plugin/device/timeline.h"

namespace tfmetal {

class Stream {
 public:
  // `sync`: wait after every encode, as with TF_METAL_SYNC=1.
  Stream(Device& device, bool sync);
  explicit Stream(Device& device);
  ~Stream();  // waits for what is queued

  Device& device() const { return device_; }
  int index() const { return timeline_.index(); }  // of the process, for the profiler

  // Calls `encode` with the open command buffer, under the device's lock and in an autorelease
  // pool. Throws the stream's poison instead if there is one. An exception from `encode` leaves
  // the stream usable, if `encode` ended its encoders. With TF_METAL_SYNC=1 the work is done on
  // return, and its own error is thrown.
  void encode(const EncodeInfo& info, const std::function<void(mps::CommandBuffer)>& encode);

  // Commits what is open and returns a ticket that covers all work given so far.
  Ticket record();
  // Work given from now on starts after `ticket`.
  void wait_for(Ticket ticket);
  // Calls `callback` on another thread when the work given so far is done; later work waits for it.
  void host_callback(std::function<void()> callback);

  // Commits and waits until all given work and all that it waits for is done. Keeps the poison.
  void wait();
  static void wait(Ticket ticket);
  // The same, and returns the poison that this uncovers and clears it.
  std::optional<Error> synchronize();
  static std::optional<Error> synchronize(Ticket ticket);

  // Ordered copies (sizes in bytes; ranges must not overlap). They leave a poison where it is,
  // except that `copy_to_host`, which waits, returns it instead of data.
  // `from` may be reused on return.
  void copy_from_host(BufferSlice to, const void* from, size_t size);
  std::optional<Error> copy_to_host(void* to, BufferSlice from, size_t size);
  void copy(BufferSlice to, BufferSlice from, size_t size);
  void fill(BufferSlice to, uint8_t value, size_t size);
  // `size` must be a multiple of 4, as must the offset be.
  void fill32(BufferSlice to, uint32_t value, size_t size);

  // Copies between memory and host without a stream: they wait for the last use of the block.
  static void copy_from_host_now(BufferSlice to, const void* from, size_t size);
  static std::optional<Error> copy_to_host_now(void* to, BufferSlice from, size_t size);
  static std::optional<Error> copy_now(BufferSlice to, BufferSlice from, size_t size);

  std::optional<Error> take_poison() { return timeline_.take_poison(); }

 private:
  void encode_copy(BufferSlice to, BufferSlice from, size_t size);

  Device& device_;
  Timeline& timeline_;
  const bool sync_;
};

}  // namespace tfmetal

// A command queue and its timeline: the buffer being filled, what was committed, what is done.
//
// Every commit signals the timeline's shared event with the next value. Work of one timeline runs
// in order. Dependencies on other timelines are encoded as event waits, and only when work that
// must wait is encoded; a wait always names a value that was committed before, so there are no
// cycles.
//
// Locks, outermost first; none is held while user code, TensorFlow or a wait runs, except that
// encode functions run under the first two:
//   1. Timeline::mutex_        the open command buffer and pending dependencies of one timeline
//   2. Device::mutex()         encoding, process-wide
//   3. leaves, one at a time:  Timeline::state_mutex_, HostCallbacks, Allocator, Device's private
//                              ones (shaders, list of timelines)
//   4. the last-use lock       (the allocator looks at last uses under its own)
// No thread holds two Timeline::mutex_. Metal's completion handlers take leaves, and mutex_ only by
// try_lock: they must never block, for Metal may need them to go on.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "plugin/device/allocator.h"
#include "plugin/device/host_callbacks.h"
#include "plugin/device/label.h"
#include "plugin/error.h"
#include "plugin/metal/mps.h"

namespace tfmetal {

class Device;

// What one encode tells the stream.
struct EncodeInfo {
  const Label* label;                 // outlives the stream
  std::span<const BufferSlice> uses;  // every block that the work reads or writes
  size_t bytes = 0;                   // touched, for the commit rule
  int dispatches = 1;                 // encodes to count
};

class Timeline {
 public:
  using Encode = std::function<void(mps::CommandBuffer)>;

  Timeline(Device& device, int index);
  ~Timeline();

  int index() const { return index_; }

  // Encodes work after everything given so far and after the last use of its blocks elsewhere.
  // May block while very much is in flight.
  void encode(const EncodeInfo& info, const Encode& encode);

  // Commits what is open; the ticket covers all work given so far and the dependencies given
  // since the last copy that the host did itself.
  Ticket record();
  // Work given from now on starts after `ticket`.
  void wait_for(Ticket ticket);
  void host_callback(std::function<void()> callback);
  // The host did the timeline's next piece of work itself, early: before the pending dependencies
  // were reached. Waits only for host callbacks that precede it.
  void begin_host_work();

  bool reached(uint64_t value) const { return completed_.load() >= value; }
  bool committed(uint64_t value) const { return committed_.load() >= value; }
  // Commits up to `value`.
  void commit_through(uint64_t value);
  // Commits and blocks the host until `value` is reached.
  void wait(uint64_t value);
  // Commits and blocks the host until all given work, its dependencies and callbacks are done.
  // Returns tickets that stand for all of it.
  std::vector<Ticket> drain();

  // The error of the first command buffer of this timeline that failed, once; those of later ones
  // are dropped with it.
  std::optional<Error> take_poison() { return take_poison(UINT64_MAX); }
  // The same for what these tickets depend on, and nothing later. Waits for it.
  static std::optional<Error> take_poison(std::vector<Ticket> tickets);

  // Forgets the past of a timeline that changes hands; it must have been drained.
  void reuse();

 private:
  // A command buffer being filled. MPSGraph may commit it and continue in another one.
  struct Open {
    mtl::Ref<mps::CommandBuffer> buffer;
    std::vector<mtl::Ref<mtl::CommandBuffer>> parts;  // committed by MPSGraph, as far as seen
    std::vector<const Label*> labels;
    long ops = 0;
    size_t bytes = 0;
    bool recorded = false;  // for profile_hook.h
  };
  // A committed one.
  struct Submission {
    uint64_t value = 0;
    std::string ops;  // labels of what it runs
    Open work;
    bool done = false;  // guarded by state_mutex_
  };
  struct Dependency {
    uint64_t value = 0;
    bool binding = true;  // false: the host did the work that this was for
  };
  class Lock;

  std::vector<Ticket> uses_elsewhere(std::span<const BufferSlice> uses) const;
  void encode_locked(const EncodeInfo& info, const std::vector<Ticket>& after,
                     const Encode& encode);
  Open& open();
  void commit();
  bool should_commit() const;
  void throttle();
  void completed(Submission& submission, mtl::CommandBuffer last);
  void finish(Submission& submission, std::optional<Error> error);
  void run_commit_requests();
  void remember_wait(Ticket ticket);
  void drop_reached_dependencies();
  std::vector<Ticket> waits_of(uint64_t value);
  std::optional<Error> take_poison(uint64_t up_to);

  const int index_, device_;  // device_: ordinal
  const long ops_per_commit_;
  const size_t bytes_per_commit_;
  const mtl::Ref<mtl::CommandQueue> queue_;
  const mtl::Ref<mtl::SharedEvent> event_;
  HostCallbacks callbacks_;

  std::mutex mutex_;
  std::optional<Open> open_;
  std::map<Timeline*, Dependency> pending_;
  uint64_t callbacks_encoded_ = 0;
  std::atomic<bool> commit_requested_{false};
  std::atomic<uint64_t> committed_{0};

  std::mutex state_mutex_;
  std::condition_variable progress_;
  std::deque<std::shared_ptr<Submission>> in_flight_;
  std::map<uint64_t, Error> poison_;  // of failed buffers, by value
  // What work here waited for: from value `at` on, `value` of the other timeline, and less. For
  // completed work only the last entry is kept.
  struct Wait {
    uint64_t at, value;
  };
  std::map<Timeline*, std::deque<Wait>> waits_;
  std::atomic<uint64_t> completed_{0};
  std::atomic<long> in_flight_count_{0};
  std::atomic<long> handlers_{0};  // still to be run to their end
};

inline bool reached(const Ticket& ticket) {
  return !ticket.timeline || ticket.timeline->reached(ticket.value);
}
// Of a block that may be in use by queued work.
Ticket last_use_of(const Block& block);
// Overwrites a block with `value`, after its last use, wherever that is queued.
void fill_after_last_use(Block& block, uint8_t value);
// Whether this thread is inside an encode function, where waiting for the device would deadlock.
bool encoding_on_this_thread();

// Metal does not survive fork(): a child must not touch the device, and never wait for it.
inline constexpr char kForkedMessage[] =
    "the Metal device cannot be used in a process that was forked after TensorFlow started using "
    "it; start worker processes with the 'spawn' method";
bool forked();
void check_not_forked();  // throws FailedPrecondition in a child
void watch_for_fork();

}  // namespace tfmetal

// Host functions that run in the order of a timeline's work, on a thread of their own.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "plugin/device/allocator.h"

namespace tfmetal {

class HostCallbacks {
 public:
  explicit HostCallbacks(mtl::Device device);
  ~HostCallbacks();

  // Runs `callback` when `after` is reached and earlier callbacks returned. Returns its number.
  uint64_t add(std::vector<Ticket> after, std::function<void()> callback);
  // The number of the last callback; 0 before the first.
  uint64_t last() const { return last_.load(); }
  bool done(uint64_t number) const { return done_.load() >= number; }
  void wait(uint64_t number);
  // Device work waits for value `number` of this event.
  mtl::SharedEvent event() const { return event_; }

 private:
  struct Entry {
    uint64_t number;
    std::vector<Ticket> after;
    std::function<void()> callback;
  };
  void run();

  const mtl::Ref<mtl::SharedEvent> event_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Entry> queue_;
  bool stop_ = false;
  std::atomic<uint64_t> last_{0}, done_{0};
  std::thread thread_;  // started by the first callback
};

}  // namespace tfmetal

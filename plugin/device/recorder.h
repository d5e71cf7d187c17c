// Collects what profile_hook.h promises.
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <vector>

#include "plugin/device/profile_hook.h"

namespace tfmetal {

class Recorder {
 public:
  static Recorder& instance();
  bool on() const { return on_.load(std::memory_order_relaxed); }
  void start();
  std::vector<EncodeRecord> stop();
  // Times in seconds, as Metal reports them.
  void add(const std::string& label, double start, double end, int stream, int device);

 private:
  std::atomic<bool> on_{false};
  std::mutex mutex_;
  std::vector<EncodeRecord> records_;
};

}  // namespace tfmetal

// What ran on the GPU and when: the source of the profiler's device rows.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tfmetal {

struct EncodeRecord {
  std::string label;  // op and node name
  uint64_t start_ns;  // GPU time, on the clock of Metal's GPUStartTime (host time since boot)
  uint64_t end_ns;
  int stream;      // index of the stream in the process, from 0
  int device = 0;  // ordinal of its device
};

// While recording, every encode gets a command buffer of its own, so that its times are its own.
// Slower, not different: the order of work is the same. Both calls are safe from any thread.
void start_recording();
// Stops, waits for the work encoded so far, and hands out (and forgets) what was recorded, in
// order of completion.
std::vector<EncodeRecord> stop_recording();

}  // namespace tfmetal

// Writes the profiler's trace format, XSpace (tsl/profiler/protobuf/xplane.proto), without
// protobuf: one plane per device, one line per stream, one event per piece of work.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tfmetal {

// A piece of work on a device.
struct TimelineEvent {
  std::string op;                     // "MatMul"; the event's name
  std::string node;                   // "dense/MatMul"; may be empty
  uint64_t start_ns = 0, end_ns = 0;  // since the epoch, as on the host's plane
  int device = 0;
  int stream = 0;
};

// A serialized XSpace. The planes are named "/device:GPU:<n>" whatever the device type is called:
// TensorFlow's tools know GPU planes by this name. Each event of a node carries the stat "tf_op",
// "<node>:<op>", from which the tools derive their rows and tables by op and by name scope.
std::string encode_xspace(const std::vector<TimelineEvent>& events);

}  // namespace tfmetal

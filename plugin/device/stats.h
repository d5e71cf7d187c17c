// What the plugin did so far: counters of the process, read through MetalRuntime.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace tfmetal {

// One row per counter: name in stats(), meaning.
#define TFMETAL_COUNTERS(X)                                                   \
  X(ops, "kernels that ran on the device")                                    \
  X(fallbacks, "float nodes of optimized graphs that were placed on the CPU") \
  X(compiles, "plans built")                                                  \
  X(compile_us, "microseconds spent in building plans")                       \
  X(hits, "launches that found their plan in the cache")                      \
  X(evictions, "plans dropped to stay within TF_METAL_CACHE_BYTES")           \
  X(encodes, "dispatches: executables and compute or blit encoders")          \
  X(commits, "command buffers committed")                                     \
  X(sync_dtoh, "times the host waited to copy from the device")               \
  X(sync_block, "times TensorFlow blocked the host until a stream was done")  \
  X(sync_op, "times a kernel waited for a value on the device")               \
  X(bytes_htod, "bytes copied from the host to the device")                   \
  X(bytes_dtoh, "bytes copied from the device to the host")                   \
  X(bytes_dtod, "bytes copied on the device")                                 \
  X(graphs, "graphs seen by the graph passes")                                \
  X(nodes_converted, "nodes that automatic mixed precision converted")        \
  X(casts_added, "Casts that it added")                                       \
  X(errors, "command buffers that failed")

struct Stats {
#define TFMETAL_COUNTER(name, help) std::atomic<int64_t> name{0};
  TFMETAL_COUNTERS(TFMETAL_COUNTER)
#undef TFMETAL_COUNTER
};

Stats& stats();
void reset_stats();        // memory figures keep their current value
std::string stats_json();  // {"ops": 1, ..., "fusions": {"pattern": 2, ...}}
// Counts a firing of a graph pattern.
void count_fusion(const std::string& pattern);

}  // namespace tfmetal

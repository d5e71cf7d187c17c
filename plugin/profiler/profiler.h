// TensorFlow's profiler (tf.profiler.experimental, the TensorBoard callback): rows of GPU work.
#pragma once

#include <string>
#include <vector>

#include "plugin/device/profile_hook.h"
#include "plugin/profiler/xspace.h"
#include "tensorflow/c/experimental/pluggable_profiler/pluggable_profiler.h"

namespace tfmetal {

// Registers the profiler of `device_type`, which must outlive the process' use of the plugin.
// Between start and stop every encode is timed on the GPU; the trace is handed out once.
void fill_profiler(TF_ProfilerRegistrationParams* params, const char* device_type);

// Records as events. A label is "<op> <node>" or "<op>:<node>", or a word for work of no node,
// such as a copy. `boot_ns`: when the records' clock was zero, since the epoch.
std::vector<TimelineEvent> timeline_events(const std::vector<EncodeRecord>& records,
                                           int64_t boot_ns);

}  // namespace tfmetal

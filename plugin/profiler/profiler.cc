#include "plugin/profiler/profiler.h"

#include <time.h>

#include <algorithm>
#include <mutex>

#include "plugin/error.h"
#include "plugin/tf_api.h"

namespace tfmetal {
namespace {

constexpr int64_t kNsPerSecond = 1000000000;

int64_t clock_ns(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return int64_t(now.tv_sec) * kNsPerSecond + now.tv_nsec;
}

// When the clock of Metal's GPUStartTime was zero, since the epoch. On macOS that is mach absolute
// time, which stands still while the machine sleeps: measured anew for each trace.
int64_t boot_time_ns() {
#ifdef __APPLE__
  constexpr clockid_t kGpuClock = CLOCK_UPTIME_RAW;
#else
  constexpr clockid_t kGpuClock = CLOCK_MONOTONIC;
#endif
  return clock_ns(CLOCK_REALTIME) - clock_ns(kGpuClock);
}

struct Session {
  std::mutex mutex;
  std::string trace;  // of the last start and stop, until it is collected
};
Session& session() {
  static Session only;
  return only;
}

// Of the first registration. TensorFlow may load this library twice, through two paths; the second
// registration is then for a type without devices, and its profiler stays silent.
const char* our_device_type = nullptr;

bool is_ours(const TP_Profiler* profiler) { return profiler->device_type == our_device_type; }

// Runs `action` and reports its exception, if any, to TensorFlow.
template <class Action>
void guarded(TF_Status* status, Action action) {
  try {
    action();
    tf.TF_SetStatus(status, TF_OK, "");
  } catch (const Error& error) {
    tf.TF_SetStatus(status, error.code, error.what());
  } catch (const std::exception& error) {
    tf.TF_SetStatus(status, TF_INTERNAL, error.what());
  }
}

void start(const TP_Profiler* profiler, TF_Status* status) {
  guarded(status, [&] {
    if (!is_ours(profiler)) return;
    const std::lock_guard lock(session().mutex);
    session().trace.clear();
    start_recording();
  });
}

void stop(const TP_Profiler* profiler, TF_Status* status) {
  guarded(status, [&] {
    if (!is_ours(profiler)) return;
    const std::vector<EncodeRecord> records = stop_recording();  // waits for the device: no lock
    std::string trace = encode_xspace(timeline_events(records, boot_time_ns()));
    const std::lock_guard lock(session().mutex);
    session().trace = std::move(trace);
  });
}

// Called twice: with a null buffer for the size, then for the data.
void collect(const TP_Profiler* profiler, uint8_t* buffer, size_t* size, TF_Status* status) {
  guarded(status, [&] {
    if (!is_ours(profiler)) {
      *size = 0;
      return;
    }
    const std::lock_guard lock(session().mutex);
    std::string& trace = session().trace;
    if (buffer && *size < trace.size())
      throw_invalid_argument("The trace has ", trace.size(), " bytes, the buffer ", *size);
    *size = trace.size();
    if (!buffer) return;
    std::copy(trace.begin(), trace.end(), buffer);
    trace.clear();
  });
}

}  // namespace

std::vector<TimelineEvent> timeline_events(const std::vector<EncodeRecord>& records,
                                           int64_t boot_ns) {
  std::vector<TimelineEvent> events;
  events.reserve(records.size());
  for (const EncodeRecord& record : records) {
    const size_t cut = std::min(record.label.find_first_of(" :"), record.label.size());
    TimelineEvent& event = events.emplace_back();
    event.op = record.label.substr(0, cut);
    event.node = record.label.substr(std::min(cut + 1, record.label.size()));
    event.start_ns = record.start_ns + uint64_t(boot_ns);
    event.end_ns = record.end_ns + uint64_t(boot_ns);
    event.stream = record.stream;
    event.device = record.device;
  }
  return events;
}

void fill_profiler(TF_ProfilerRegistrationParams* params, const char* device_type) {
  if (!our_device_type) our_device_type = device_type;
  params->struct_size = TF_PROFILER_REGISTRATION_PARAMS_STRUCT_SIZE;
  params->major_version = TP_MAJOR;
  params->minor_version = TP_MINOR;
  params->patch_version = TP_PATCH;
  params->profiler->struct_size = TP_PROFILER_STRUCT_SIZE;
  params->profiler->device_type = device_type;
  params->profiler_fns->struct_size = TP_PROFILER_FNS_STRUCT_SIZE;
  params->profiler_fns->start = start;
  params->profiler_fns->stop = stop;
  params->profiler_fns->collect_data_xspace = collect;
  params->destroy_profiler = [](TP_Profiler*) {};
  params->destroy_profiler_fns = [](TP_ProfilerFns*) {};
}

}  // namespace tfmetal

#include "plugin/device/recorder.h"

#include <utility>

#include "plugin/device/device.h"

namespace tfmetal {

namespace {

uint64_t nanoseconds(double seconds) { return static_cast<uint64_t>(seconds * 1e9); }

}  // namespace

Recorder& Recorder::instance() {
  static Recorder& recorder = *new Recorder;  // completion handlers may outlive static objects
  return recorder;
}

void Recorder::start() {
  std::lock_guard lock(mutex_);
  records_.clear();
  on_ = true;
}

std::vector<EncodeRecord> Recorder::stop() {
  on_ = false;
  for (const auto& device : Device::all()) device->wait();
  std::lock_guard lock(mutex_);
  return std::exchange(records_, {});
}

void Recorder::add(const std::string& label, double start, double end, int stream, int device) {
  std::lock_guard lock(mutex_);
  records_.push_back({label, nanoseconds(start), nanoseconds(end), stream, device});
}

void start_recording() { Recorder::instance().start(); }
std::vector<EncodeRecord> stop_recording() { return Recorder::instance().stop(); }

}  // namespace tfmetal

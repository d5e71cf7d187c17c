#include "plugin/device/device.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#ifdef __APPLE__
#include <sys/sysctl.h>
#endif

#include "plugin/device/shader_library.h"
#include "plugin/device/timeline.h"
#include "plugin/env.h"
#include "plugin/error.h"
#include "plugin/log.h"

namespace tfmetal {

namespace {

std::atomic<int> timelines_of_process{0};

std::string macos_version_text() {
#ifdef __APPLE__
  char text[32] = "";
  size_t size = sizeof text;
  if (sysctlbyname("kern.osproductversion", text, &size, nullptr, 0) != 0) return "";
  return text;
#else
  return env::text(env::kHostMacos);
#endif
}

// Bytes for all devices together.
uint64_t memory_limit(mtl::Device metal) {
  const uint64_t recommended = metal.recommended_max_working_set_size();
  const long wanted = env::integer(env::kMemoryLimit);
  return wanted > 0 ? static_cast<uint64_t>(wanted) : recommended;
}

std::vector<std::unique_ptr<Device>> create_devices() {
  watch_for_fork();
  const ns::AutoreleasePool pool;
  std::vector<std::unique_ptr<Device>> devices;
  const mtl::Ref<mtl::Device> metal = mtl::Device::create_default();
  if (!metal) return devices;
  const long count = std::max(1L, env::integer(env::kDevices));
  const uint64_t limit = memory_limit(metal) / static_cast<uint64_t>(count);
  for (int i = 0; i < count; ++i) devices.push_back(std::make_unique<Device>(metal, i, limit));
  return devices;
}

}  // namespace

MacosVersion macos_version() {
  MacosVersion version;
  std::sscanf(macos_version_text().c_str(), "%d.%d", &version.major, &version.minor);
  return version;
}

const std::vector<std::unique_ptr<Device>>& Device::all() {
  // Never destroyed: TensorFlow's threads may still run when static objects are destroyed.
  static const auto& devices = *new std::vector<std::unique_ptr<Device>>(create_devices());
  return devices;
}

Device& Device::of(const void* device_memory) {
  for (const auto& device : all()) {
    if (device->allocator().owns(device_memory)) return *device;
  }
  throw_internal("address ", device_memory, " is not memory of a Metal device");
}

Device::Device(mtl::Ref<mtl::Device> metal, int ordinal, uint64_t limit)
    : metal_(std::move(metal)), ordinal_(ordinal), allocator_(metal_, limit) {}

Device::~Device() = default;

std::mutex& Device::mutex() {
  static std::mutex& mutex = *new std::mutex;
  return mutex;
}

std::string Device::name() const {
  const ns::AutoreleasePool pool;
  return metal_.name();
}

mtl::Library Device::library() {
  if (!library_) library_ = shader_library(metal_);
  return library_;
}

mtl::ComputePipelineState Device::pipeline(const std::string& function) {
  std::lock_guard lock(shaders_mutex_);
  if (auto it = pipelines_.find(function); it != pipelines_.end()) return it->second;
  check_not_forked();
  const ns::AutoreleasePool pool;
  const mtl::Ref<mtl::Function> shader = library().new_function(function);
  if (!shader) throw_internal("there is no shader ", function);
  ns::Error error;
  mtl::Ref<mtl::ComputePipelineState> pipeline = metal_.new_pipeline(shader, &error);
  if (!pipeline) {
    throw_internal("no pipeline for shader ", function, ": ",
                   error ? error.description() : "no reason given");
  }
  return pipelines_[function] = std::move(pipeline);
}

Timeline& Device::acquire_timeline() {
  check_not_forked();
  std::lock_guard lock(timelines_mutex_);
  if (!unused_timelines_.empty()) {
    Timeline* timeline = unused_timelines_.back();
    unused_timelines_.pop_back();
    return *timeline;
  }
  const ns::AutoreleasePool pool;
  timelines_.push_back(std::make_unique<Timeline>(*this, timelines_of_process++));
  return *timelines_.back();
}

void Device::release_timeline(Timeline& timeline) {
  if (forked()) return;
  timeline.reuse();
  std::lock_guard lock(timelines_mutex_);
  unused_timelines_.push_back(&timeline);
}

void Device::wait() {
  if (forked()) return;
  std::vector<Timeline*> timelines;
  {
    std::lock_guard lock(timelines_mutex_);
    for (const auto& timeline : timelines_) timelines.push_back(timeline.get());
  }
  for (Timeline* timeline : timelines) timeline->drain();
}

}  // namespace tfmetal

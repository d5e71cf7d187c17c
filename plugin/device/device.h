// One Metal device as TensorFlow sees it: memory, streams, shaders.
#pragma once

#include <compare>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "plugin/device/allocator.h"
#include "plugin/metal/metal.h"

namespace tfmetal {

class Timeline;

struct MacosVersion {
  int major = 0, minor = 0;
  friend auto operator<=>(const MacosVersion&, const MacosVersion&) = default;
};
// Of this machine; on Linux what TF_METAL_HOST_MACOS simulates.
MacosVersion macos_version();

class Device {
 public:
  // Creates the devices on first use; they live until the process ends. Empty when there is no
  // Metal device to be had. TF_METAL_DEVICES of them share the GPU and its memory limit.
  static const std::vector<std::unique_ptr<Device>>& all();
  // The device that owns this memory; throws Internal if none does.
  static Device& of(const void* device_memory);

  // `limit`: bytes of memory to use at most.
  Device(mtl::Ref<mtl::Device> metal, int ordinal, uint64_t limit);
  ~Device();

  int ordinal() const { return ordinal_; }
  mtl::Device metal() const { return metal_; }
  Allocator& allocator() { return allocator_; }
  // Serialises encoding: MPSGraph and encoders are not safe from two threads. Process-wide, as all
  // devices are the same GPU.
  static std::mutex& mutex();
  std::string name() const;

  // The pipeline of a shader of kernels/msl, built on first use and kept. Throws Internal.
  mtl::ComputePipelineState pipeline(const std::string& function);

  // For Stream: a timeline of its own until it is given back.
  Timeline& acquire_timeline();
  void release_timeline(Timeline& timeline);
  // Waits for all work given to any stream of this device.
  void wait();

 private:
  mtl::Library library();  // under shaders_mutex_

  const mtl::Ref<mtl::Device> metal_;
  const int ordinal_;
  Allocator allocator_;
  std::mutex shaders_mutex_;
  mtl::Ref<mtl::Library> library_;
  std::unordered_map<std::string, mtl::Ref<mtl::ComputePipelineState>> pipelines_;
  std::mutex timelines_mutex_;
  std::vector<std::unique_ptr<Timeline>> timelines_;
  std::vector<Timeline*> unused_timelines_;
};

}  // namespace tfmetal

// One Metal device as TensorFlow sees it: memory, streams, shaders.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "plugin/device/allocator.h"
#include "plugin/metal/metal.h"

namespace tfmetal {

class Stream;

struct MacosVersion {
  int major, minor;
  friend auto operator<=>(const MacosVersion&, const MacosVersion&) = default;
};
// Of this machine; on Linux what TF_METAL_HOST_MACOS simulates.
MacosVersion macos_version();

class Device {
 public:
  // Creates the devices on first use. Empty when there is no Metal device to be had.
  static const std::vector<std::unique_ptr<Device>>& all();
  // The device that owns this memory; throws Internal if none does.
  static Device& of(const void* device_memory);

  Device(mtl::Ref<mtl::Device> metal, int ordinal);

  int ordinal() const { return ordinal_; }
  mtl::Device metal() const { return metal_; }
  Allocator& allocator() { return allocator_; }
  // Serialises encoding: MPSGraph and encoders are not safe from two threads.
  std::mutex& mutex() { return mutex_; }
  std::string name() const { return metal_.name(); }

  // The pipeline of a shader of kernels/msl, built on first use and kept. Throws Internal.
  mtl::ComputePipelineState pipeline(const std::string& function);

  void add(Stream* stream);
  void remove(Stream* stream);
  std::vector<Stream*> streams();

 private:
  const mtl::Ref<mtl::Device> metal_;
  const int ordinal_;
  Allocator allocator_;
  std::mutex mutex_;
  std::mutex streams_mutex_;
  std::vector<Stream*> streams_;
  struct Shaders;
  std::shared_ptr<Shaders> shaders_;
};

}  // namespace tfmetal

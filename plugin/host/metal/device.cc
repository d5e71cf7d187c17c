// The simulated GPU and its memory.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "plugin/env.h"
#include "plugin/host/metal/command.h"
#include "plugin/host/metal/library.h"
#include "plugin/metal/metal.h"

namespace host {
namespace {

// Buffers from this size on get pages of their own, which the kernel zeroes when they are touched.
constexpr size_t kMapFrom = 1 << 20;

// Metal's maxBufferLength is about this part of its recommendedMaxWorkingSetSize.
constexpr double kMaxBufferPart = 0.75;

std::atomic<size_t> allocated{0};

size_t page_size() {
  static const size_t size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

size_t memory_limit() {
  const long wanted = tfmetal::env::integer(tfmetal::env::kHostMemory);
  if (wanted > 0) return static_cast<size_t>(wanted);
  return static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * page_size() / 4 * 3;
}

size_t max_buffer_length() {
  return static_cast<size_t>(static_cast<double>(memory_limit()) * kMaxBufferPart);
}

struct Device : Object {
  static constexpr const char* kClass = "MTLDevice";
};

// One device in a process, which is never freed.
Device* the_device() {
  static Device* const device = make<Device>();
  return device;
}

id new_buffer(NSUInteger length, mtl::ResourceOptions options) {
  if (length == 0) {
    abort_like_apple("newBufferWithLength:options: Cannot create buffer of zero length");
  }
  if (options != mtl::ResourceOptions::StorageModeShared) {
    abort_like_apple("newBufferWithLength:options: the host has MTLResourceStorageModeShared only");
  }
  if (length > max_buffer_length() || allocated + length > memory_limit()) return nullptr;
  auto* buffer = make<Buffer>(length);
  if (buffer->bytes) return buffer;
  objc_release(buffer);
  return nullptr;
}

}  // namespace

// The content of a new buffer is zero, unless chaos mode shows that nothing promises it. `bytes`
// stays null when the memory cannot be had.
Buffer::Buffer(size_t size) : length(size) {
  allocated += length;
  if (size >= kMapFrom) {
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory != MAP_FAILED) bytes = static_cast<char*>(memory);
  } else {
    void* memory = nullptr;  // exactly `size` bytes, so that AddressSanitizer sees the end
    if (posix_memalign(&memory, page_size(), size) == 0) bytes = static_cast<char*>(memory);
    if (bytes) std::memset(bytes, 0, size);
  }
  if (bytes && chaos_mode()) std::memset(bytes, kPoisonByte, size);
}

Buffer::~Buffer() {
  allocated -= length;
  if (!bytes) return;
  if (chaos_mode()) std::memset(bytes, kPoisonByte, length);
  if (length >= kMapFrom) {
    munmap(bytes, length);
  } else {
    std::free(bytes);
  }
}

HOST_CLASS(MTLBuffer, NSObject);
HOST_METHOD(MTLBuffer, "contents", [](Buffer* self) -> void* { return self->bytes; });
HOST_METHOD(MTLBuffer, "length", [](Buffer* self) -> NSUInteger { return self->length; });

HOST_CLASS(MTLDevice, NSObject);
HOST_METHOD(MTLDevice, "name",
            [](Device*) -> id { return make_autoreleased<String>("Apple host"); });
HOST_METHOD(MTLDevice, "maxBufferLength",
            [](Device*) -> NSUInteger { return max_buffer_length(); });
HOST_METHOD(MTLDevice, "recommendedMaxWorkingSetSize",
            [](Device*) -> uint64_t { return memory_limit(); });
HOST_METHOD(MTLDevice, "maxThreadsPerThreadgroup", [](Device*) -> mtl::Size {
  return {msl::kMaxThreadsPerGroup, msl::kMaxThreadsPerGroup, msl::kMaxThreadsPerGroup};
});
HOST_METHOD(MTLDevice, "newBufferWithLength:options:",
            [](Device*, NSUInteger length, mtl::ResourceOptions options) -> id {
              return new_buffer(length, options);
            });
HOST_METHOD(MTLDevice, "newCommandQueue", [](Device*) -> id { return make<CommandQueue>(); });
HOST_METHOD(MTLDevice, "newSharedEvent", [](Device*) -> id { return make<SharedEvent>(); });
HOST_METHOD(MTLDevice, "newLibraryWithSource:options:error:",
            [](Device*, id source, id options, void* error) -> id {
              return new_library(source, options, error);
            });
HOST_METHOD(MTLDevice, "newLibraryWithURL:error:", [](Device*, id url, void* error) -> id {
  return library_of_file(url, error);
});
HOST_METHOD(MTLDevice, "newComputePipelineStateWithFunction:error:",
            [](Device*, id function, void* error) -> id { return new_pipeline(function, error); });

}  // namespace host

extern "C" {

id MTLCreateSystemDefaultDevice() {
  const bool present = tfmetal::env::flag(tfmetal::env::kHostGpus);
  return present ? objc_retain(host::the_device()) : nullptr;
}

id MTLCopyAllDevices() {
  const id device = host::the_device();
  return host::make<host::Array>(&device, 1);
}

}  // extern "C"

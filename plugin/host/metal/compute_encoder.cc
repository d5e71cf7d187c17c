// The compute encoder: arguments are latched when a dispatch is encoded.
#include <array>
#include <cstring>

#include "plugin/env.h"
#include "plugin/host/metal/encoder.h"
#include "plugin/host/metal/library.h"
#include "plugin/host/mps_graph/kept_operands.h"
#include "plugin/host/msl/kernel.h"

namespace host {
namespace {

using msl::kMaxBuffers;

constexpr size_t kMaxBytes = 4096;             // of setBytes:length:atIndex:
constexpr size_t kThreadgroupMemoryUnit = 16;  // lengths must be a multiple of it

struct ComputeEncoder : Encoder {
  static constexpr const char* kClass = "MTLComputeCommandEncoder";
  using Encoder::Encoder;
  ~ComputeEncoder() override { objc_release(pipeline); }

  struct Argument {
    char* address = nullptr;  // in a buffer that the encoder's resources retain, or in `bytes`
    size_t offset = 0, length = 0;
  };
  std::array<Argument, kMaxBuffers> arguments{};
  // Of setBytes; shared with the dispatches, which run after the encoder is gone.
  using Bytes = std::vector<std::unique_ptr<char[]>>;
  std::shared_ptr<Bytes> bytes;
  std::vector<size_t> threadgroup_lengths;
  ComputePipelineState* pipeline = nullptr;  // retained
};

void check_index(NSUInteger index, const char* selector) {
  if (index >= kMaxBuffers) {
    abort_like_apple(std::string(selector) + ": index " + std::to_string(index) +
                     " must be less than " + std::to_string(kMaxBuffers));
  }
}

void set_pipeline(ComputeEncoder* self, id state) {
  self->check_open("setComputePipelineState:");
  auto* pipeline = as<ComputePipelineState>(state, "setComputePipelineState:");
  if (!pipeline) abort_like_apple("setComputePipelineState: computePipelineState must not be nil");
  objc_retain(pipeline);
  objc_release(self->pipeline);
  self->pipeline = pipeline;
}

void set_buffer(ComputeEncoder* self, id object, NSUInteger offset, NSUInteger index) {
  self->check_open("setBuffer:offset:atIndex:");
  check_index(index, "setBuffer:offset:atIndex:");
  auto* buffer = as<Buffer>(object, "setBuffer:offset:atIndex:");
  if (buffer && offset >= buffer->length) {
    abort_like_apple("setBuffer:offset:atIndex: offset(" + std::to_string(offset) +
                     ") must be < [buffer length](" + std::to_string(buffer->length) + ")");
  }
  self->arguments[index] = {};
  if (!buffer) return;
  self->resources.push_back(objc_retain(buffer));
  self->arguments[index] = {buffer->bytes + offset, offset, buffer->length - offset};
}

void set_bytes(ComputeEncoder* self, const void* bytes, NSUInteger length, NSUInteger index) {
  self->check_open("setBytes:length:atIndex:");
  check_index(index, "setBytes:length:atIndex:");
  if (!bytes || length == 0 || length > kMaxBytes) {
    abort_like_apple("setBytes:length:atIndex: length(" + std::to_string(length) +
                     ") must be from 1 to " + std::to_string(kMaxBytes));
  }
  if (!self->bytes) self->bytes = std::make_shared<ComputeEncoder::Bytes>();
  self->bytes->push_back(std::make_unique<char[]>(length));
  char* copy = self->bytes->back().get();
  std::memcpy(copy, bytes, length);
  self->arguments[index] = {copy, 0, length};
}

void set_threadgroup_memory(ComputeEncoder* self, NSUInteger length, NSUInteger index) {
  self->check_open("setThreadgroupMemoryLength:atIndex:");
  check_index(index, "setThreadgroupMemoryLength:atIndex:");
  if (length % kThreadgroupMemoryUnit != 0 || length > msl::kMaxThreadgroupMemory) {
    abort_like_apple("setThreadgroupMemoryLength:atIndex: length(" + std::to_string(length) +
                     ") must be a multiple of 16 and at most 32768");
  }
  if (self->threadgroup_lengths.size() <= index) self->threadgroup_lengths.resize(index + 1);
  self->threadgroup_lengths[index] = length;
}

// "kernel add: buffer(1)"
std::string describe(const msl::Kernel& kernel, const msl::Parameter& p) {
  return "kernel " + std::string(kernel.name) + (p.threadgroup ? ": threadgroup(" : ": buffer(") +
         std::to_string(p.index) + ")";
}

// Every parameter of the kernel must be bound to at least one aligned element.
void check_parameters(const ComputeEncoder* self, const msl::Kernel& kernel) {
  for (const msl::Parameter& p : kernel.parameters) {
    if (p.threadgroup) {
      const auto& lengths = self->threadgroup_lengths;
      if (p.index >= lengths.size() || lengths[p.index] < p.size) {
        abort_like_apple(describe(kernel, p) + " has no memory");
      }
      continue;
    }
    const auto& argument = self->arguments[p.index];
    if (!argument.address) abort_like_apple(describe(kernel, p) + " is not bound");
    if (argument.length < p.size) {
      abort_like_apple(describe(kernel, p) + " is bound to " + std::to_string(argument.length) +
                       " bytes, at least " + std::to_string(p.size) + " are needed");
    }
    if (argument.offset % p.alignment != 0) {
      abort_like_apple(describe(kernel, p) + ": offset " + std::to_string(argument.offset) +
                       " must be a multiple of " + std::to_string(p.alignment));
    }
  }
}

msl::Size3 checked_size(mtl::Size size, const char* what) {
  constexpr NSUInteger kMax = UINT32_MAX;
  if (size.width == 0 || size.height == 0 || size.depth == 0 || size.width > kMax ||
      size.height > kMax || size.depth > kMax) {
    abort_like_apple(std::string(what) + "(" + std::to_string(size.width) + ", " +
                     std::to_string(size.height) + ", " + std::to_string(size.depth) +
                     ") must be from 1 to 2^32 - 1");
  }
  return {static_cast<uint32_t>(size.width), static_cast<uint32_t>(size.height),
          static_cast<uint32_t>(size.depth)};
}

// A wrong shader, for tests of what finds one: changes the high bits of the first element that it
// wrote.
void spoil(const msl::Kernel& kernel, const msl::Launch& launch) {
  const std::string wrong = tfmetal::env::text(tfmetal::env::kHostWrong);
  if (wrong.empty() || std::string_view(kernel.name).find(wrong) == std::string_view::npos) {
    return;
  }
  for (const msl::Parameter& p : kernel.parameters) {
    if (p.written && !p.threadgroup)
      static_cast<char*>(launch.buffers[p.index])[p.size - 1] ^= 0x40;
  }
}

void dispatch(ComputeEncoder* self, msl::Size3 grid, msl::Size3 group_size) {
  if (!self->pipeline) abort_like_apple("dispatch without a compute pipeline state");
  const msl::Kernel& kernel = *self->pipeline->kernel;
  if (size_t{group_size.x} * group_size.y * group_size.z > self->pipeline->max_threads()) {
    abort_like_apple("threadsPerThreadgroup must be <= " +
                     std::to_string(self->pipeline->max_threads()));
  }
  check_parameters(self, kernel);
  msl::Launch launch{grid, group_size, {}, self->threadgroup_lengths};
  for (size_t i = 0; i < self->arguments.size(); ++i) {
    launch.buffers[i] = self->arguments[i].address;
  }
  self->add(
      [&kernel, launch = std::move(launch), bytes = self->bytes] {
        for (const msl::Parameter& p : kernel.parameters) {
          if (p.written) forget_operands_at(launch.buffers[p.index]);
        }
        msl::launch(kernel, launch);
        spoil(kernel, launch);
      },
      {self->pipeline}, true);
}

void dispatch_threads(ComputeEncoder* self, mtl::Size threads, mtl::Size group) {
  self->check_open("dispatchThreads:threadsPerThreadgroup:");
  dispatch(self, checked_size(threads, "threadsPerGrid"),
           checked_size(group, "threadsPerThreadgroup"));
}

void dispatch_threadgroups(ComputeEncoder* self, mtl::Size groups, mtl::Size group) {
  self->check_open("dispatchThreadgroups:threadsPerThreadgroup:");
  checked_size(groups, "threadgroupsPerGrid");
  checked_size(group, "threadsPerThreadgroup");
  const mtl::Size threads{groups.width * group.width, groups.height * group.height,
                          groups.depth * group.depth};
  dispatch_threads(self, threads, group);
}

}  // namespace

id new_compute_encoder(CommandBuffer* buffer) { return make_autoreleased<ComputeEncoder>(buffer); }

HOST_CLASS(MTLComputeCommandEncoder, MTLCommandEncoder);
HOST_METHOD(MTLComputeCommandEncoder, "setComputePipelineState:",
            [](ComputeEncoder* self, id state) -> void { set_pipeline(self, state); });
HOST_METHOD(MTLComputeCommandEncoder, "setBuffer:offset:atIndex:",
            [](ComputeEncoder* self, id buffer, NSUInteger offset, NSUInteger index) -> void {
              set_buffer(self, buffer, offset, index);
            });
HOST_METHOD(MTLComputeCommandEncoder, "setBytes:length:atIndex:",
            [](ComputeEncoder* self, const void* bytes, NSUInteger length,
               NSUInteger index) -> void { set_bytes(self, bytes, length, index); });
HOST_METHOD(MTLComputeCommandEncoder, "setThreadgroupMemoryLength:atIndex:",
            [](ComputeEncoder* self, NSUInteger length, NSUInteger index) -> void {
              set_threadgroup_memory(self, length, index);
            });
HOST_METHOD(MTLComputeCommandEncoder, "dispatchThreads:threadsPerThreadgroup:",
            [](ComputeEncoder* self, mtl::Size threads, mtl::Size group) -> void {
              dispatch_threads(self, threads, group);
            });
HOST_METHOD(MTLComputeCommandEncoder, "dispatchThreadgroups:threadsPerThreadgroup:",
            [](ComputeEncoder* self, mtl::Size groups, mtl::Size group) -> void {
              dispatch_threadgroups(self, groups, group);
            });

}  // namespace host

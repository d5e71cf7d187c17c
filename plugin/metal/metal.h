// Metal: device, memory, command submission, compute.
// https://developer.apple.com/documentation/metal
#pragma once

#include "plugin/metal/foundation.h"

namespace mtl {

using ns::Array;
using ns::Error;
using ns::Object;
using ns::Ref;
using ns::send;
using ns::String;

struct Size {
  static constexpr const char* kEncoding = "{?=QQQ}";
  NSUInteger width, height, depth;
};

enum class ResourceOptions : NSUInteger { StorageModeShared = 0 };
enum class MathMode : NSInteger { Safe = 0, Relaxed = 1, Fast = 2 };
enum class CommandBufferStatus : NSUInteger {
  NotEnqueued = 0,
  Enqueued = 1,
  Committed = 2,
  Scheduled = 3,
  Completed = 4,
  Error = 5,
};

struct Buffer : Object {
  using Object::Object;
  void* contents() const { return send<void*>(raw(), OBJC_SEL("contents")); }
  NSUInteger length() const { return send<NSUInteger>(raw(), OBJC_SEL("length")); }
};

// A 64-bit counter that queues and the host signal and wait for.
struct SharedEvent : Object {
  using Object::Object;
  uint64_t signaled_value() const { return send<uint64_t>(raw(), OBJC_SEL("signaledValue")); }
  void set_signaled_value(uint64_t v) const { send<void>(raw(), OBJC_SEL("setSignaledValue:"), v); }
};

struct Function : Object {
  using Object::Object;
};

struct ComputePipelineState : Object {
  using Object::Object;
  NSUInteger max_total_threads_per_threadgroup() const {
    return send<NSUInteger>(raw(), OBJC_SEL("maxTotalThreadsPerThreadgroup"));
  }
  NSUInteger thread_execution_width() const {
    return send<NSUInteger>(raw(), OBJC_SEL("threadExecutionWidth"));
  }
};

struct Library : Object {
  using Object::Object;
  Ref<Function> new_function(const std::string& name) const {
    return Ref(send<Function>(raw(), OBJC_SEL("newFunctionWithName:"), String::make(name)));
  }
};

struct CompileOptions : Object {
  using Object::Object;
  static Ref<CompileOptions> make() {
    return Ref(send<CompileOptions>(objc_getClass("MTLCompileOptions"), OBJC_SEL("new")));
  }
  void set_math_mode(MathMode mode) const {  // macOS 15
    send<void>(raw(), OBJC_SEL("setMathMode:"), mode);
  }
  void set_fast_math_enabled(bool on) const {
    send<void>(raw(), OBJC_SEL("setFastMathEnabled:"), on);
  }
};

struct BlitCommandEncoder : Object {
  using Object::Object;
  void copy(Buffer from, NSUInteger from_offset, Buffer to, NSUInteger to_offset,
            NSUInteger size) const {
    send<void>(raw(), OBJC_SEL("copyFromBuffer:sourceOffset:toBuffer:destinationOffset:size:"),
               from, from_offset, to, to_offset, size);
  }
  void fill(Buffer buffer, ns::Range range, uint8_t value) const {
    send<void>(raw(), OBJC_SEL("fillBuffer:range:value:"), buffer, range, value);
  }
  void set_label(String label) const { send<void>(raw(), OBJC_SEL("setLabel:"), label); }
  void end_encoding() const { send<void>(raw(), OBJC_SEL("endEncoding")); }
};

struct ComputeCommandEncoder : Object {
  using Object::Object;
  void set_pipeline(ComputePipelineState state) const {
    send<void>(raw(), OBJC_SEL("setComputePipelineState:"), state);
  }
  void set_buffer(Buffer buffer, NSUInteger offset, NSUInteger index) const {
    send<void>(raw(), OBJC_SEL("setBuffer:offset:atIndex:"), buffer, offset, index);
  }
  void set_bytes(const void* bytes, NSUInteger length, NSUInteger index) const {
    send<void>(raw(), OBJC_SEL("setBytes:length:atIndex:"), bytes, length, index);
  }
  void set_threadgroup_memory_length(NSUInteger length, NSUInteger index) const {
    send<void>(raw(), OBJC_SEL("setThreadgroupMemoryLength:atIndex:"), length, index);
  }
  void dispatch_threads(Size threads, Size threads_per_group) const {
    send<void>(raw(), OBJC_SEL("dispatchThreads:threadsPerThreadgroup:"), threads,
               threads_per_group);
  }
  void dispatch_threadgroups(Size groups, Size threads_per_group) const {
    send<void>(raw(), OBJC_SEL("dispatchThreadgroups:threadsPerThreadgroup:"), groups,
               threads_per_group);
  }
  void set_label(String label) const { send<void>(raw(), OBJC_SEL("setLabel:"), label); }
  void end_encoding() const { send<void>(raw(), OBJC_SEL("endEncoding")); }
};

struct CommandBuffer : Object {
  using Object::Object;
  using Handler = objc::Block<void(id)>;
  void commit() const { send<void>(raw(), OBJC_SEL("commit")); }
  void wait_until_completed() const { send<void>(raw(), OBJC_SEL("waitUntilCompleted")); }
  CommandBufferStatus status() const {
    return send<CommandBufferStatus>(raw(), OBJC_SEL("status"));
  }
  Error error() const { return send<Error>(raw(), OBJC_SEL("error")); }
  double gpu_start_time() const { return send<double>(raw(), OBJC_SEL("GPUStartTime")); }
  double gpu_end_time() const { return send<double>(raw(), OBJC_SEL("GPUEndTime")); }
  // Called once on a thread of Metal's when the buffer completed or failed; not after that.
  void add_completed_handler(std::function<void(CommandBuffer)> f) const {
    Handler block([f = std::move(f)](id self) { f(CommandBuffer(self)); });
    send<void>(raw(), OBJC_SEL("addCompletedHandler:"), block);
  }
  void encode_signal(SharedEvent event, uint64_t value) const {
    send<void>(raw(), OBJC_SEL("encodeSignalEvent:value:"), event, value);
  }
  void encode_wait(SharedEvent event, uint64_t value) const {
    send<void>(raw(), OBJC_SEL("encodeWaitForEvent:value:"), event, value);
  }
  BlitCommandEncoder blit_encoder() const {
    return send<BlitCommandEncoder>(raw(), OBJC_SEL("blitCommandEncoder"));
  }
  ComputeCommandEncoder compute_encoder() const {
    return send<ComputeCommandEncoder>(raw(), OBJC_SEL("computeCommandEncoder"));
  }
  void set_label(const std::string& label) const {
    send<void>(raw(), OBJC_SEL("setLabel:"), String::make(label));
  }
};

struct CommandQueue : Object {
  using Object::Object;
  CommandBuffer command_buffer() const {
    return send<CommandBuffer>(raw(), OBJC_SEL("commandBuffer"));
  }
  void set_label(const std::string& label) const {
    send<void>(raw(), OBJC_SEL("setLabel:"), String::make(label));
  }
};

extern "C" id MTLCreateSystemDefaultDevice(void);
extern "C" id MTLCopyAllDevices(void);

struct Device : Object {
  using Object::Object;
  static Ref<Device> create_default() { return Ref(Device(MTLCreateSystemDefaultDevice())); }
  std::string name() const { return send<String>(raw(), OBJC_SEL("name")).str(); }
  NSUInteger max_buffer_length() const {
    return send<NSUInteger>(raw(), OBJC_SEL("maxBufferLength"));
  }
  uint64_t recommended_max_working_set_size() const {
    return send<uint64_t>(raw(), OBJC_SEL("recommendedMaxWorkingSetSize"));
  }
  Size max_threads_per_threadgroup() const {
    return send<Size>(raw(), OBJC_SEL("maxThreadsPerThreadgroup"));
  }
  // nil when the memory cannot be had.
  Ref<Buffer> new_buffer(NSUInteger length) const {
    return Ref(send<Buffer>(raw(), OBJC_SEL("newBufferWithLength:options:"), length,
                            ResourceOptions::StorageModeShared));
  }
  Ref<CommandQueue> new_command_queue() const {
    return Ref(send<CommandQueue>(raw(), OBJC_SEL("newCommandQueue")));
  }
  Ref<SharedEvent> new_shared_event() const {
    return Ref(send<SharedEvent>(raw(), OBJC_SEL("newSharedEvent")));
  }
  // On failure the result is nil and `error` (autoreleased) says why.
  Ref<Library> new_library(const std::string& source, CompileOptions options, Error* error) const {
    return Ref(send<Library>(raw(), OBJC_SEL("newLibraryWithSource:options:error:"),
                             String::make(source), options, &error->self));
  }
  // Of a file that was compiled before.
  Ref<Library> new_library(ns::URL file, Error* error) const {
    return Ref(send<Library>(raw(), OBJC_SEL("newLibraryWithURL:error:"), file, &error->self));
  }
  Ref<ComputePipelineState> new_pipeline(Function function, Error* error) const {
    return Ref(send<ComputePipelineState>(
        raw(), OBJC_SEL("newComputePipelineStateWithFunction:error:"), function, &error->self));
  }
};

}  // namespace mtl

// What the host does beyond a real driver: aborts on misuse, injected failures, leak counts, forks.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "kernels/shaders.h"
#include "plugin/host/host.h"
#include "plugin/host/metal.h"
#include "plugin/host/mps.h"
#include "plugin/metal/metal.h"
#include "plugin/metal/mps.h"
#include "tests/cc/death.h"

namespace {

struct Fixture {
  objc::AutoreleasePool pool;
  ns::Ref<mtl::Device> device = mtl::Device::create_default();
  ns::Ref<mtl::CommandQueue> queue = device.new_command_queue();
  ns::Ref<mtl::Buffer> data = device.new_buffer(64);
  mtl::CommandBuffer buffer = queue.command_buffer();

  Fixture() { std::memset(data.contents(), 0, data.length()); }
  ns::Ref<mtl::ComputePipelineState> pipeline(const char* name) {
    mtl::Error error;
    const auto options = mtl::CompileOptions::make();
    options.set_fast_math_enabled(false);
    const auto library = device.new_library(tfmetal::kShaderSource, options, &error);
    return device.new_pipeline(library.new_function(name), &error);
  }
  void fill(mtl::CommandBuffer to, size_t cell, uint8_t value, const std::string& label) {
    const mtl::BlitCommandEncoder blit = to.blit_encoder();
    blit.set_label(ns::String::make(label));
    blit.fill(data, {4 * cell, 4}, value);
    blit.end_encoding();
  }
  char byte(size_t cell) const { return static_cast<const char*>(data.contents())[4 * cell]; }
};

// Every class that a command buffer may keep alive.
long live() {
  long n = 0;
  for (const char* name : {"MTLBuffer", "MTLCommandQueue", "MTLCommandBuffer", "MTLSharedEvent",
                           "MTLBlitCommandEncoder", "MTLComputeCommandEncoder", "MTLLibrary",
                           "MTLFunction", "MTLComputePipelineState", "MTLCompileOptions",
                           "MPSCommandBuffer", "NSString", "NSError", "NSNumber", "NSArray"}) {
    n += host::live_objects(name);
  }
  return n;
}

}  // namespace

// ---- aborts
// --------------------------------------------------------------------------------------

DEATH_TEST(commit_twice, "commit an already committed command buffer") {
  Fixture f;
  f.buffer.commit();
  f.buffer.commit();
}
DEATH_TEST(commit_with_open_encoder, "commit command buffer with uncommitted encoder") {
  Fixture f;
  f.buffer.blit_encoder();
  f.buffer.commit();
}
DEATH_TEST(two_encoders, "A command encoder is already encoding to this command buffer") {
  Fixture f;
  f.buffer.blit_encoder();
  f.buffer.compute_encoder();
}
DEATH_TEST(signal_inside_of_an_encoder, "A command encoder is already encoding") {
  Fixture f;
  const auto event = f.device.new_shared_event();
  f.buffer.blit_encoder();
  f.buffer.encode_signal(event, 1);
}
DEATH_TEST(encode_after_commit, "the command buffer is already committed") {
  Fixture f;
  f.buffer.commit();
  f.buffer.blit_encoder();
}
DEATH_TEST(signal_after_commit, "the command buffer is already committed") {
  Fixture f;
  const auto event = f.device.new_shared_event();
  f.buffer.commit();
  f.buffer.encode_signal(event, 1);
}
DEATH_TEST(handler_after_commit, "Completed handler provided after commit call") {
  Fixture f;
  f.buffer.commit();
  f.buffer.add_completed_handler([](mtl::CommandBuffer) {});
}
DEATH_TEST(wait_before_commit, "the command buffer is not committed") {
  Fixture f;
  f.buffer.wait_until_completed();
}
DEATH_TEST(encoder_that_is_dropped, "Command encoder released without endEncoding") {
  Fixture f;
  objc::AutoreleasePool inner;
  f.buffer.blit_encoder();
}
DEATH_TEST(end_encoding_twice, "the encoder has ended encoding") {
  Fixture f;
  const mtl::BlitCommandEncoder blit = f.buffer.blit_encoder();
  blit.end_encoding();
  blit.end_encoding();
}
DEATH_TEST(encode_into_ended_encoder, "the encoder has ended encoding") {
  Fixture f;
  const mtl::BlitCommandEncoder blit = f.buffer.blit_encoder();
  blit.end_encoding();
  blit.fill(f.data, {0, 4}, 0);
}
DEATH_TEST(copy_out_of_range, "offset 60 + size 8 exceeds the buffer length 64") {
  Fixture f;
  const auto other = f.device.new_buffer(64);
  f.buffer.blit_encoder().copy(f.data, 60, other, 0, 8);
}
DEATH_TEST(copy_with_wrapping_range, "exceeds the buffer length 64") {
  Fixture f;
  const auto other = f.device.new_buffer(64);
  f.buffer.blit_encoder().copy(f.data, ~0ul - 3, other, 0, 32);
}
DEATH_TEST(copy_of_overlapping_ranges, "source and destination ranges overlap") {
  Fixture f;
  f.buffer.blit_encoder().copy(f.data, 0, f.data, 4, 8);
}
DEATH_TEST(copy_of_nothing, "size must be greater than 0") {
  Fixture f;
  const auto other = f.device.new_buffer(64);
  f.buffer.blit_encoder().copy(f.data, 0, other, 0, 0);
}
DEATH_TEST(fill_out_of_range, "exceeds the buffer length 64") {
  Fixture f;
  f.buffer.blit_encoder().fill(f.data, {64, 4}, 0);
}
DEATH_TEST(copy_that_is_not_aligned, "offset 2 and size 4 must be multiples of 4 on macOS") {
  Fixture f;
  const auto other = f.device.new_buffer(64);
  f.buffer.blit_encoder().copy(f.data, 2, other, 0, 4);
}
DEATH_TEST(fill_that_is_not_aligned, "offset 4 and size 3 must be multiples of 4 on macOS") {
  Fixture f;
  f.buffer.blit_encoder().fill(f.data, {4, 3}, 0);
}
DEATH_TEST(copy_of_4_gib, "a Mac leaves blits of 4 GiB and more undone") {
  Fixture f;
  const auto other = f.device.new_buffer(64);
  f.buffer.blit_encoder().copy(f.data, 0, other, 0, size_t{1} << 32);
}
DEATH_TEST(fast_math, "the host computes with safe math") {
  Fixture f;
  mtl::Error error;
  const auto options = mtl::CompileOptions::make();
  options.set_math_mode(mtl::MathMode::Relaxed);
  f.device.new_library(tfmetal::kShaderSource, options, &error);
}
DEATH_TEST(buffer_of_zero_length, "Cannot create buffer of zero length") {
  Fixture f;
  f.device.new_buffer(0);
}
DEATH_TEST(dispatch_without_pipeline, "dispatch without a compute pipeline state") {
  Fixture f;
  f.buffer.compute_encoder().dispatch_threads({1, 1, 1}, {1, 1, 1});
}
DEATH_TEST(dispatch_without_argument, "kernel fill_4: buffer(0) is not bound") {
  Fixture f;
  const mtl::ComputeCommandEncoder encoder = f.buffer.compute_encoder();
  encoder.set_pipeline(f.pipeline("fill_4"));
  encoder.dispatch_threads({1, 1, 1}, {1, 1, 1});
}
DEATH_TEST(argument_that_is_too_small, "buffer(1) is bound to 2 bytes, at least 4 are needed") {
  Fixture f;
  const mtl::ComputeCommandEncoder encoder = f.buffer.compute_encoder();
  encoder.set_pipeline(f.pipeline("fill_4"));
  encoder.set_buffer(f.data, 0, 0);
  encoder.set_bytes("12", 2, 1);
  encoder.dispatch_threads({1, 1, 1}, {1, 1, 1});
}
DEATH_TEST(argument_that_is_not_aligned, "offset 2 must be a multiple of 4") {
  Fixture f;
  const mtl::ComputeCommandEncoder encoder = f.buffer.compute_encoder();
  encoder.set_pipeline(f.pipeline("fill_4"));
  encoder.set_buffer(f.data, 2, 0);
  encoder.dispatch_threads({1, 1, 1}, {1, 1, 1});
}
DEATH_TEST(empty_grid, "threadsPerGrid(0, 1, 1) must be") {
  Fixture f;
  const mtl::ComputeCommandEncoder encoder = f.buffer.compute_encoder();
  encoder.set_pipeline(f.pipeline("fill_4"));
  encoder.dispatch_threads({0, 1, 1}, {1, 1, 1});
}
DEATH_TEST(threadgroup_that_is_too_large, "threadsPerThreadgroup must be <= ") {
  Fixture f;
  const mtl::ComputeCommandEncoder encoder = f.buffer.compute_encoder();
  encoder.set_pipeline(f.pipeline("fill_4"));
  encoder.dispatch_threads({2048, 1, 1}, {1025, 1, 1});
}
DEATH_TEST(set_bytes_that_are_too_many, "setBytes:length:atIndex: length(4097)") {
  Fixture f;
  const std::string bytes(4097, 'x');
  f.buffer.compute_encoder().set_bytes(bytes.data(), bytes.size(), 0);
}
DEATH_TEST(argument_index_out_of_range, "index 31 must be less than 31") {
  Fixture f;
  f.buffer.compute_encoder().set_buffer(f.data, 0, 31);
}
DEATH_TEST(too_many_open_command_buffers, "would block for ever") {
  Fixture f;
  for (int i = 0; i < 64; ++i) f.queue.command_buffer();
}
DEATH_TEST(nd_array_beyond_its_buffer, "buffer is not large enough. Must be 76 bytes, has 64") {
  Fixture f;
  const auto d = mps::NDArrayDescriptor::make(mps::DataType::Float32,
                                              ns::Array::numbers(std::vector<long>{5, 3}));
  mps::NDArray::make(f.data, 0, d);  // 5 rows of 12 bytes, padded to 16
}

TEST(nd_array_with_packed_rows) {
  Fixture f;
  const auto d = mps::NDArrayDescriptor::make(mps::DataType::Float32,
                                              ns::Array::numbers(std::vector<long>{5, 3}));
  d.set_prefer_packed_rows(true);
  const auto array = mps::NDArray::make(f.data, 4, d);
  const auto* host_array = host::as<host::NDArray>(array.raw(), "array");
  CHECK_EQ(host_array->offset, 4u);
  CHECK_EQ(host_array->row_bytes, 12u);
}

// ---- failures
// -------------------------------------------------------------------------------------

TEST(injected_failure_stops_one_buffer) {
  Fixture f;
  const auto event = f.device.new_shared_event();
  setenv("TF_METAL_HOST_FAIL", "Relu@1", 1);
  f.fill(f.buffer, 0, 'a', "model/MatMul");
  f.fill(f.buffer, 1, 'b', "model/Relu:0");
  f.fill(f.buffer, 2, 'c', "model/Softmax");
  f.buffer.encode_signal(event, 1);
  std::atomic<int> handlers{0};
  f.buffer.add_completed_handler([&](mtl::CommandBuffer) { ++handlers; });
  f.buffer.commit();
  f.buffer.wait_until_completed();
  CHECK(f.buffer.status() == mtl::CommandBufferStatus::Error);
  CHECK(f.buffer.error().description().find("model/Relu:0") != std::string::npos);
  CHECK_EQ(handlers.load(), 1);
  CHECK_EQ(event.signaled_value(), 0u);
  CHECK_EQ(f.byte(0), 'a');  // ran before the failure
  CHECK_EQ(f.byte(1), 0);
  CHECK_EQ(f.byte(2), 0);

  mtl::CommandBuffer next = f.queue.command_buffer();  // disarmed
  f.fill(next, 3, 'd', "Relu");
  next.commit();
  next.wait_until_completed();
  CHECK(next.status() == mtl::CommandBufferStatus::Completed);
  CHECK_EQ(f.byte(3), 'd');

  setenv("TF_METAL_HOST_FAIL", "Relu@2", 1);  // armed again
  next = f.queue.command_buffer();
  f.fill(next, 4, 'e', "Relu");
  next.commit();
  next.wait_until_completed();
  CHECK(next.status() == mtl::CommandBufferStatus::Error);
  unsetenv("TF_METAL_HOST_FAIL");
}

TEST(exception_of_a_command_is_a_failure) {
  Fixture f;
  host::as<host::CommandBuffer>(f.buffer.raw(), "buffer")
      ->append({"graph", [] { throw std::runtime_error("no such algorithm"); }}, {});
  f.buffer.commit();
  f.buffer.wait_until_completed();
  CHECK(f.buffer.status() == mtl::CommandBufferStatus::Error);
  CHECK(f.buffer.error().description().find("no such algorithm") != std::string::npos);
}

TEST(memory_limit) {
  setenv("TF_METAL_HOST_MEMORY", "1000000", 1);
  {
    Fixture f;
    CHECK_EQ(f.device.recommended_max_working_set_size(), 1000000u);
    CHECK_EQ(f.device.max_buffer_length(), 750000u);
    CHECK(!f.device.new_buffer(750001));
    auto first = f.device.new_buffer(600000);
    CHECK(first);
    CHECK(!f.device.new_buffer(600000));
    first = {};
    CHECK(f.device.new_buffer(600000));
  }
  unsetenv("TF_METAL_HOST_MEMORY");
}

TEST(worker_flushes_denormals) {
  Fixture f;
  float result = 1;
  host::as<host::CommandBuffer>(f.buffer.raw(), "buffer")
      ->append({"",
                [&] {
                  volatile float tiny = 1e-39f;
                  result = tiny * 2;
                }},
               {});
  f.buffer.commit();
  f.buffer.wait_until_completed();
  CHECK_EQ(result, 0.0f);
}

TEST(commit_and_continue_replaces_the_root) {
  Fixture f;
  const auto buffer = mps::CommandBuffer::from_queue(f.queue);
  const id first = objc_retain(buffer.root().raw());
  f.fill(buffer, 0, 'a', "");
  host::as<host::MpsCommandBuffer>(buffer.raw(), "buffer")->commit_and_continue();
  CHECK(buffer.root().raw() != first);
  f.fill(buffer, 1, 'b', "");
  buffer.root().commit();
  buffer.root().wait_until_completed();
  CHECK_EQ(f.byte(0), 'a');
  CHECK_EQ(f.byte(1), 'b');
  objc_release(first);
}

// ---- leaks
// -----------------------------------------------------------------------------------------

TEST(nothing_stays_alive) {
  const long before = live();
  for (int i = 0; i < 20; ++i) {
    Fixture f;
    const auto event = f.device.new_shared_event();
    const auto pipeline = f.pipeline("fill_4");
    const mtl::ComputeCommandEncoder encoder = f.buffer.compute_encoder();
    const uint32_t value = 1;
    const uint64_t count = 4;
    encoder.set_label(ns::String::make("fill"));
    encoder.set_pipeline(pipeline);
    encoder.set_buffer(f.data, 0, 0);
    encoder.set_bytes(&value, 4, 1);
    encoder.set_bytes(&count, 8, 2);
    encoder.dispatch_threads({4, 1, 1}, {4, 1, 1});
    encoder.end_encoding();
    f.buffer.encode_signal(event, 1);
    f.buffer.encode_wait(event, 1);
    if (i % 2) f.buffer.add_completed_handler([keep = f.data](mtl::CommandBuffer) {});
    const auto mps = mps::CommandBuffer::from_queue(f.queue);
    f.fill(mps, 0, 1, "never committed");
    f.buffer.commit();
    f.buffer.wait_until_completed();
  }
  CHECK_EQ(live(), before);
}

TEST(failed_buffer_leaks_nothing) {
  const long before = live();
  {
    Fixture f;
    setenv("TF_METAL_HOST_FAIL", "leak@1", 1);
    f.fill(f.buffer, 0, 1, "leak");
    f.buffer.commit();
    f.buffer.wait_until_completed();
    CHECK(f.buffer.error());
    unsetenv("TF_METAL_HOST_FAIL");
  }
  CHECK_EQ(live(), before);
}

// ---- ends of processes --------------------------------------------------------------------------

DEATH_CASE(exit_with_work_in_flight) {
  static Fixture* const f = new Fixture;  // never destroyed: the buffers are in flight at exit
  for (int i = 0; i < 30; ++i) {
    const mtl::CommandBuffer buffer = f->queue.command_buffer();
    f->fill(buffer, 0, 1, "");
    buffer.add_completed_handler([](mtl::CommandBuffer) {
      static std::atomic<int> done{0};
      if (++done == 30) std::fprintf(stderr, "all done\n");
    });
    buffer.commit();
  }
}
TEST(exit_finishes_committed_work) {
  const death::Outcome outcome =
      death::run("exit_with_work_in_flight", {"ASAN_OPTIONS=detect_leaks=0"});
  CHECK_EQ(outcome.status, 0);
  CHECK_EQ(outcome.stderr_text, "all done\n");
}

#if !defined(__SANITIZE_THREAD__)  // which does not support threads after a fork
DEATH_CASE(use_after_fork) {
  Fixture f;
  f.fill(f.buffer, 0, 'a', "");
  f.buffer.commit();
  f.buffer.wait_until_completed();
  const auto event = f.device.new_shared_event();
  const mtl::CommandBuffer stuck = f.queue.command_buffer();
  stuck.encode_wait(event, 1);
  stuck.commit();
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    stuck.wait_until_completed();  // its worker is gone
    const bool failed = stuck.status() == mtl::CommandBufferStatus::Error;
    const mtl::CommandBuffer old = f.queue.command_buffer();
    old.commit();
    old.wait_until_completed();
    const bool refused = old.status() == mtl::CommandBufferStatus::Error;
    Fixture fresh;
    fresh.fill(fresh.buffer, 0, 'z', "");
    fresh.buffer.commit();
    fresh.buffer.wait_until_completed();
    _exit(failed && refused && fresh.byte(0) == 'z' ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  event.set_signaled_value(1);
  stuck.wait_until_completed();
  std::exit(status == 0 ? 0 : 1);
}
TEST(forked_child_does_not_hang) {
  CHECK_EQ(death::run("use_after_fork", {"ASAN_OPTIONS=detect_leaks=0"}).status, 0);
}
#endif

DEATH_TEST_MAIN()

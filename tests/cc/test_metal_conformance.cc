// What the plugin relies on Metal to do. Uses plugin/metal/*.h only, so that it can run on a Mac.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "kernels/shaders.h"
#include "plugin/metal/metal.h"
#include "plugin/metal/mps.h"
#include "tests/cc/check.h"

using mtl::CommandBufferStatus;

namespace {

struct Fixture {
  objc::AutoreleasePool pool;
  mtl::Device device = default_device();
  ns::Ref<mtl::CommandQueue> queue = device.new_command_queue();

  static mtl::Device default_device() {
    static const ns::Ref<mtl::Device> device = mtl::Device::create_default();
    return device;
  }
  ns::Ref<mtl::Buffer> bytes(const std::string& content) {
    ns::Ref<mtl::Buffer> buffer = device.new_buffer(content.size());
    std::memcpy(buffer.contents(), content.data(), content.size());
    return buffer;
  }
};

std::string content(mtl::Buffer buffer) {
  return std::string(static_cast<const char*>(buffer.contents()), buffer.length());
}

// Blits deal in multiples of four bytes: in these texts a character is a cell of as many.
constexpr size_t kCell = 4;
ns::Ref<mtl::Buffer> cells(Fixture& f, const std::string& text) {
  std::string bytes;
  for (char c : text) bytes.append(kCell, c);
  return f.bytes(bytes);
}
std::string text_of(mtl::Buffer cells) {
  const std::string bytes = content(cells);
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += kCell) {
    text += bytes.substr(i, kCell) == std::string(kCell, bytes[i]) ? bytes[i] : '?';
  }
  return text;
}

void copy_cells(mtl::CommandBuffer buffer, mtl::Buffer from, size_t from_offset, mtl::Buffer to,
                size_t to_offset, size_t size) {
  mtl::BlitCommandEncoder blit = buffer.blit_encoder();
  blit.copy(from, kCell * from_offset, to, kCell * to_offset, kCell * size);
  blit.end_encoding();
}

void fill_cells(mtl::CommandBuffer buffer, mtl::Buffer to, size_t offset, size_t size,
                uint8_t value) {
  mtl::BlitCommandEncoder blit = buffer.blit_encoder();
  blit.fill(to, {kCell * offset, kCell * size}, value);
  blit.end_encoding();
}

// Opens once.
class Gate {
 public:
  void open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  bool wait_for(std::chrono::milliseconds patience) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, patience, [&] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};
constexpr std::chrono::seconds kPatience{20};     // for what must happen
constexpr std::chrono::milliseconds kMoment{30};  // for what must not

struct Shaders {
  ns::Ref<mtl::Library> library;
  explicit Shaders(mtl::Device device) {
    mtl::Error error;
    const auto options = mtl::CompileOptions::make();
    options.set_fast_math_enabled(false);
    library = device.new_library(tfmetal::kShaderSource, options, &error);
    if (!library) check::report(__FILE__, __LINE__, error.description());
  }
  ns::Ref<mtl::ComputePipelineState> pipeline(mtl::Device device, const std::string& name) {
    mtl::Error error;
    return device.new_pipeline(library.new_function(name), &error);
  }
};

}  // namespace

TEST(device_limits) {
  Fixture f;
  CHECK(!f.device.name().empty());
  CHECK(f.device.max_buffer_length() >= (1ul << 20));
  CHECK(f.device.recommended_max_working_set_size() >= f.device.max_buffer_length());
  CHECK(f.device.max_threads_per_threadgroup().width >= 512);
}

TEST(default_device_is_one_object) {
  objc::AutoreleasePool pool;
  CHECK(mtl::Device::create_default() == mtl::Device::create_default());
  ns::Ref<ns::Array> all(ns::Array(mtl::MTLCopyAllDevices()));
  CHECK(all.count() >= 1);
}

TEST(buffer_is_memory) {
  Fixture f;
  for (size_t length : {1ul, 3ul, 4096ul, 5000000ul}) {
    const auto buffer = f.device.new_buffer(length);
    CHECK_EQ(buffer.length(), length);
    CHECK_EQ(reinterpret_cast<size_t>(buffer.contents()) % 4096, 0u);
    std::memset(buffer.contents(), 7, length);
    CHECK_EQ(content(buffer), std::string(length, 7));
  }
}

TEST(buffer_that_is_too_large_is_nil) {
  Fixture f;
  CHECK(!f.device.new_buffer(f.device.max_buffer_length() + (1ul << 30)));
}

TEST(copy_between_buffers) {
  Fixture f;
  const auto from = cells(f, "0123456789"), to = cells(f, "..........");
  const mtl::CommandBuffer buffer = f.queue.command_buffer();
  copy_cells(buffer, from, 2, to, 5, 3);
  buffer.commit();
  buffer.wait_until_completed();
  CHECK_EQ(text_of(to), ".....234..");
}

TEST(copy_within_a_buffer) {
  Fixture f;
  const auto data = cells(f, "0123456789");
  const mtl::CommandBuffer buffer = f.queue.command_buffer();
  copy_cells(buffer, data, 0, data, 5, 5);
  buffer.commit();
  buffer.wait_until_completed();
  CHECK_EQ(text_of(data), "0123401234");
}

TEST(fill_a_range) {
  Fixture f;
  const auto data = cells(f, "..........");
  const mtl::CommandBuffer buffer = f.queue.command_buffer();
  fill_cells(buffer, data, 3, 4, 'x');
  buffer.commit();
  buffer.wait_until_completed();
  CHECK_EQ(text_of(data), "...xxxx...");
}

TEST(encoders_of_a_buffer_run_in_order) {
  Fixture f;
  const auto a = cells(f, "a"), b = cells(f, "b"), c = cells(f, "c");
  const mtl::CommandBuffer buffer = f.queue.command_buffer();
  copy_cells(buffer, a, 0, b, 0, 1);
  copy_cells(buffer, b, 0, c, 0, 1);
  fill_cells(buffer, a, 0, 1, 'z');
  buffer.commit();
  buffer.wait_until_completed();
  CHECK_EQ(text_of(a) + text_of(b) + text_of(c), "zaa");
}

TEST(buffers_of_a_queue_run_in_order_of_commit) {
  Fixture f;
  const auto data = cells(f, std::string(64, '.'));
  mtl::CommandBuffer last;
  for (int i = 0; i < 50; ++i) {
    last = f.queue.command_buffer();
    fill_cells(last, data, 0, 64, static_cast<uint8_t>(i));
    last.commit();
  }
  last.wait_until_completed();
  CHECK_EQ(text_of(data), std::string(64, 49));
}

TEST(nothing_runs_before_commit) {
  Fixture f;
  const auto data = cells(f, "a");
  const mtl::CommandBuffer buffer = f.queue.command_buffer();
  fill_cells(buffer, data, 0, 1, 'b');
  CHECK(buffer.status() == CommandBufferStatus::NotEnqueued);
  std::this_thread::sleep_for(kMoment);
  CHECK_EQ(text_of(data), "a");
  buffer.commit();
  CHECK(buffer.status() >= CommandBufferStatus::Committed);
  buffer.wait_until_completed();
  CHECK(buffer.status() == CommandBufferStatus::Completed);
  CHECK(!buffer.error());
  CHECK_EQ(text_of(data), "b");
}

TEST(empty_buffer_completes_with_times) {
  Fixture f;
  const mtl::CommandBuffer buffer = f.queue.command_buffer();
  buffer.commit();
  buffer.wait_until_completed();
  CHECK(buffer.status() == CommandBufferStatus::Completed);
  CHECK(buffer.gpu_end_time() >= buffer.gpu_start_time());
}

TEST(work_survives_release_of_everything_by_the_caller) {
  Fixture f;
  const auto target = cells(f, "..");
  const auto event = f.device.new_shared_event();
  ns::Ref<mtl::CommandBuffer> buffer;
  {
    objc::AutoreleasePool inner;
    ns::Ref<mtl::CommandQueue> queue = f.device.new_command_queue();
    buffer = ns::Ref<mtl::CommandBuffer>::retain(queue.command_buffer());
    const auto source = cells(f, "ok");
    buffer.encode_wait(event, 1);
    copy_cells(buffer, source, 0, target, 0, 2);
    buffer.commit();
  }
  event.set_signaled_value(1);
  buffer.wait_until_completed();
  CHECK_EQ(text_of(target), "ok");
}

TEST(completed_handler_sees_the_result_on_another_thread) {
  Fixture f;
  const auto data = cells(f, "a");
  const mtl::CommandBuffer buffer = f.queue.command_buffer();
  fill_cells(buffer, data, 0, 1, 'b');
  std::atomic<int> calls{0};
  std::thread::id thread;
  char seen = 0;
  CommandBufferStatus status{};
  buffer.add_completed_handler([&](mtl::CommandBuffer completed) {
    thread = std::this_thread::get_id();
    seen = *static_cast<char*>(data.contents());
    status = completed.status();
    ++calls;
  });
  buffer.commit();
  buffer.wait_until_completed();  // returns after the handlers
  CHECK_EQ(calls.load(), 1);
  CHECK(thread != std::this_thread::get_id());
  CHECK_EQ(seen, 'b');
  CHECK(status == CommandBufferStatus::Completed);
}

TEST(handlers_of_a_queue_run_in_order) {
  Fixture f;
  std::mutex mutex;
  std::vector<int> order;
  mtl::CommandBuffer last;
  for (int i = 0; i < 20; ++i) {
    last = f.queue.command_buffer();
    for (int j = 0; j < 2; ++j) {
      last.add_completed_handler([&, i, j](mtl::CommandBuffer) {
        std::lock_guard lock(mutex);
        order.push_back(2 * i + j);
      });
    }
    last.commit();
  }
  last.wait_until_completed();
  std::vector<int> expected(40);
  std::iota(expected.begin(), expected.end(), 0);
  CHECK(order == expected);
}

TEST(slow_handler_does_not_hold_up_the_gpu) {
  Fixture f;
  const auto data = cells(f, "a");
  const auto event = f.device.new_shared_event();
  Gate gate;
  const mtl::CommandBuffer first = f.queue.command_buffer(), second = f.queue.command_buffer();
  first.add_completed_handler([&](mtl::CommandBuffer) { gate.wait_for(kPatience); });
  first.commit();
  second.encode_signal(event, 1);
  second.commit();
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (event.signaled_value() < 1 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  CHECK_EQ(event.signaled_value(), 1u);
  gate.open();
  second.wait_until_completed();
  first.wait_until_completed();  // its handler uses the gate
}

TEST(handler_may_commit_more_work) {
  Fixture f;
  const auto data = cells(f, "a");
  Gate gate;
  const mtl::CommandBuffer first = f.queue.command_buffer();
  first.add_completed_handler([&](mtl::CommandBuffer) {
    objc::AutoreleasePool pool;
    const mtl::CommandBuffer next = f.queue.command_buffer();
    fill_cells(next, data, 0, 1, 'b');
    next.add_completed_handler([&](mtl::CommandBuffer) { gate.open(); });
    next.commit();
  });
  first.commit();
  CHECK(gate.wait_for(kPatience));
  CHECK_EQ(text_of(data), "b");
}

TEST(event_orders_two_queues) {
  Fixture f;
  const auto other = f.device.new_command_queue();
  const auto event = f.device.new_shared_event();
  const auto a = cells(f, "a"), b = cells(f, "."), c = cells(f, ".");
  const mtl::CommandBuffer waiting = other.command_buffer(), signalling = f.queue.command_buffer();
  waiting.encode_wait(event, 1);
  copy_cells(waiting, b, 0, c, 0, 1);
  waiting.commit();
  std::this_thread::sleep_for(kMoment);
  CHECK(waiting.status() < CommandBufferStatus::Completed);
  copy_cells(signalling, a, 0, b, 0, 1);
  signalling.encode_signal(event, 1);
  signalling.commit();
  waiting.wait_until_completed();
  CHECK_EQ(text_of(c), "a");
  CHECK_EQ(event.signaled_value(), 1u);
}

TEST(host_signals_a_queue) {
  Fixture f;
  const auto event = f.device.new_shared_event();
  const auto data = cells(f, "a");
  const mtl::CommandBuffer buffer = f.queue.command_buffer();
  buffer.encode_wait(event, 5);
  fill_cells(buffer, data, 0, 1, 'b');
  buffer.commit();
  event.set_signaled_value(4);
  std::this_thread::sleep_for(kMoment);
  CHECK(buffer.status() < CommandBufferStatus::Completed);
  CHECK_EQ(text_of(data), "a");
  event.set_signaled_value(6);  // more than was waited for
  buffer.wait_until_completed();
  CHECK_EQ(text_of(data), "b");
}

TEST(many_threads_commit_to_one_queue) {
  Fixture f;
  constexpr int kThreads = 4, kEach = 50;
  const auto data = cells(f, std::string(kThreads, '.'));
  std::atomic<int> handlers{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      objc::AutoreleasePool pool;
      mtl::CommandBuffer last;
      for (int i = 1; i <= kEach; ++i) {
        last = f.queue.command_buffer();
        fill_cells(last, data, static_cast<size_t>(t), 1, static_cast<uint8_t>(i));
        last.add_completed_handler([&](mtl::CommandBuffer) { ++handlers; });
        last.commit();
      }
      last.wait_until_completed();
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK_EQ(text_of(data), std::string(kThreads, kEach));
  CHECK_EQ(handlers.load(), kThreads * kEach);
}

TEST(library_and_functions) {
  Fixture f;
  Shaders shaders(f.device);
  CHECK(shaders.library.new_function("fill_4"));
  CHECK(!shaders.library.new_function("no_such_kernel"));
  const auto pipeline = shaders.pipeline(f.device, "fill_4");
  CHECK(pipeline.max_total_threads_per_threadgroup() >= 256);
  CHECK_EQ(pipeline.thread_execution_width(), 32u);
}

TEST(library_that_does_not_compile) {
  Fixture f;
  mtl::Error error;
  const auto options = mtl::CompileOptions::make();
  options.set_fast_math_enabled(false);
  CHECK(!f.device.new_library("kernel void broken( {", options, &error));
  CHECK(error);
  CHECK(!error.description().empty());
}

TEST(kernel_with_ragged_grid) {
  Fixture f;
  Shaders shaders(f.device);
  constexpr uint32_t kCount = 100003, kValue = 0xdeadbeef;
  const auto data = f.device.new_buffer(4 * (kCount + 1));
  auto* words = static_cast<uint32_t*>(data.contents());
  std::fill(words, words + kCount + 1, 1);
  const mtl::CommandBuffer buffer = f.queue.command_buffer();
  const mtl::ComputeCommandEncoder encoder = buffer.compute_encoder();
  const uint64_t count = kCount + 1;  // the grid, not the argument, is the limit
  encoder.set_pipeline(shaders.pipeline(f.device, "fill_4"));
  encoder.set_buffer(data, 0, 0);
  encoder.set_bytes(&kValue, sizeof kValue, 1);
  encoder.set_bytes(&count, sizeof count, 2);
  encoder.dispatch_threads({kCount, 1, 1}, {256, 1, 1});
  encoder.end_encoding();
  buffer.commit();
  buffer.wait_until_completed();
  CHECK(std::all_of(words, words + kCount, [](uint32_t w) { return w == kValue; }));
  CHECK_EQ(words[kCount], 1u);
}

TEST(arguments_are_latched_by_each_dispatch) {
  Fixture f;
  Shaders shaders(f.device);
  const auto data = f.bytes("......");
  const mtl::CommandBuffer buffer = f.queue.command_buffer();
  const mtl::ComputeCommandEncoder encoder = buffer.compute_encoder();
  encoder.set_pipeline(shaders.pipeline(f.device, "fill_1"));
  for (uint8_t i = 0; i < 3; ++i) {
    uint8_t value = static_cast<uint8_t>('a' + i);
    uint64_t count = 2;
    encoder.set_buffer(data, 2ul * i, 0);
    encoder.set_bytes(&value, 1, 1);
    encoder.set_bytes(&count, 8, 2);
    encoder.dispatch_threadgroups({1, 1, 1}, {32, 1, 1});
    value = '!', count = 0;  // were copied
  }
  encoder.end_encoding();
  buffer.commit();
  buffer.wait_until_completed();
  CHECK_EQ(content(data), "aabbcc");
}

TEST(mps_command_buffer_forwards_to_its_root) {
  Fixture f;
  const auto data = cells(f, "a");
  const auto buffer = mps::CommandBuffer::from_queue(f.queue);
  fill_cells(buffer, data, 0, 1, 'b');
  std::atomic<int> calls{0};
  buffer.add_completed_handler([&](mtl::CommandBuffer) { ++calls; });
  const mtl::CommandBuffer root = buffer.root();
  root.commit();
  root.wait_until_completed();
  CHECK(root.status() == CommandBufferStatus::Completed);
  CHECK_EQ(text_of(data), "b");
  CHECK_EQ(calls.load(), 1);
}

// result = left * right (+ result), of parts of buffers, operands transposed or not.
TEST(matrix_products_of_parts_of_buffers) {
  Fixture f;
  const auto buffer = f.device.new_buffer(16 * sizeof(float));
  auto* values = static_cast<float*>(buffer.contents());
  std::iota(values, values + 16, 0.0f);  // left: 1 2 | 4 5, right: 6 9 (rows 3 apart), result: 12
  const auto matrix = [&](size_t first, NSUInteger rows, NSUInteger columns, NSUInteger stride) {
    const auto how =
        mps::MatrixDescriptor::make(rows, columns, stride * sizeof(float), mps::DataType::Float32);
    return mps::Matrix::make(buffer, first * sizeof(float), how);
  };
  const auto multiply = [&](bool transpose_left, double beta) {
    const auto product =
        mps::MatrixMultiplication::make(f.device, transpose_left, false, 2, 1, 2, 1, beta);
    product.set_label(ns::String::make("product"));
    const auto commands = mps::CommandBuffer::from_queue(f.queue);
    product.encode(commands, matrix(1, 2, 2, 3), matrix(6, 2, 1, 3), matrix(12, 2, 1, 2));
    commands.root().commit();
    commands.root().wait_until_completed();
    return std::vector<float>{values[12], values[13], values[14], values[15]};
  };
  CHECK(multiply(false, 0) == (std::vector<float>{24, 13, 69, 15}));
  CHECK(multiply(true, 0) == (std::vector<float>{42, 13, 57, 15}));
  CHECK(multiply(false, 1) == (std::vector<float>{66, 13, 126, 15}));
}

// The host keeps operands of products in a form of its own.
TEST(matrix_products_see_what_was_written_in_between) {
  Fixture f;
  Shaders shaders(f.device);
  constexpr NSUInteger kSide = 48, kBytes = kSide * kSide * sizeof(float);
  const auto filled = [&](float value) {
    auto buffer = f.device.new_buffer(kBytes);
    std::fill_n(static_cast<float*>(buffer.contents()), kSide * kSide, value);
    return buffer;
  };
  const auto left = filled(1), weights = filled(2);
  const ns::Ref<mtl::Buffer> results[] = {filled(0), filled(0), filled(0), filled(0)};
  const auto how =
      mps::MatrixDescriptor::make(kSide, kSide, kSide * sizeof(float), mps::DataType::Float32);
  const auto product =
      mps::MatrixMultiplication::make(f.device, false, false, kSide, kSide, kSide, 1, 0);
  const auto commands = mps::CommandBuffer::from_queue(f.queue);
  const auto multiply = [&](mtl::Buffer right, mtl::Buffer result) {
    product.encode(commands, mps::Matrix::make(left, 0, how), mps::Matrix::make(right, 0, how),
                   mps::Matrix::make(result, 0, how));
  };
  multiply(weights, results[0]);
  const mtl::ComputeCommandEncoder encoder = commands.root().compute_encoder();
  const float three = 3;
  const uint64_t count = kSide * kSide;
  encoder.set_pipeline(shaders.pipeline(f.device, "fill_4"));
  encoder.set_buffer(weights, 0, 0);
  encoder.set_bytes(&three, sizeof three, 1);
  encoder.set_bytes(&count, sizeof count, 2);
  encoder.dispatch_threads({count, 1, 1}, {256, 1, 1});
  encoder.end_encoding();
  multiply(weights, results[1]);
  fill_cells(commands.root(), weights, 0, kBytes / kCell, 0);
  multiply(weights, results[2]);
  multiply(results[1], weights);
  multiply(weights, results[3]);
  commands.root().commit();
  commands.root().wait_until_completed();
  const auto first = [](const mtl::Buffer& b) { return *static_cast<float*>(b.contents()); };
  CHECK_EQ(first(results[0]), 2.0f * kSide);
  CHECK_EQ(first(results[1]), 3.0f * kSide);
  CHECK_EQ(first(results[2]), 0.0f);
  CHECK_EQ(first(results[3]), 3.0f * kSide * kSide * kSide);
}

TEST_MAIN()

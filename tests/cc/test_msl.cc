// Shaders compiled as C++: types, positions, barriers, SIMD groups, atomics, and their misuse.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/shaders.h"
#include "plugin/host/chaos.h"
#include "plugin/host/msl/types.h"
#include "plugin/metal/metal.h"
#include "tests/cc/death.h"

namespace {

// Memory of a kernel argument: copied in at the dispatch and out when it has completed.
struct Argument {
  void* bytes;
  size_t length;
};
template <class T>
Argument arg(std::vector<T>& v) {
  return {v.data(), v.size() * sizeof(T)};
}
template <class T>
Argument arg(T& v) {
  return {&v, sizeof v};
}

// Runs a kernel with buffer arguments 0, 1, ...; `scratch` bytes of threadgroup memory.
void run(const char* kernel, mtl::Size threads, mtl::Size group, std::vector<Argument> arguments,
         size_t scratch = 0) {
  objc::AutoreleasePool pool;
  const auto device = mtl::Device::create_default();
  const auto queue = device.new_command_queue();
  mtl::Error error;
  const auto options = mtl::CompileOptions::make();
  options.set_fast_math_enabled(false);
  const auto library = device.new_library(tfmetal::kShaderSource, options, &error);
  const auto pipeline = device.new_pipeline(library.new_function(kernel), &error);
  const mtl::CommandBuffer buffer = queue.command_buffer();
  const mtl::ComputeCommandEncoder encoder = buffer.compute_encoder();
  encoder.set_pipeline(pipeline);
  std::vector<ns::Ref<mtl::Buffer>> buffers;
  for (const Argument& a : arguments) {
    buffers.push_back(device.new_buffer(a.length));
    std::memcpy(buffers.back().contents(), a.bytes, a.length);
    encoder.set_buffer(buffers.back(), 0, buffers.size() - 1);
  }
  if (scratch) encoder.set_threadgroup_memory_length(scratch, 0);
  encoder.dispatch_threads(threads, group);
  encoder.end_encoding();
  buffer.commit();
  buffer.wait_until_completed();
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::memcpy(arguments[i].bytes, buffers[i].contents(), arguments[i].length);
  }
}

template <class T>
void check_row_sums(const char* kernel, unsigned rows, unsigned columns, unsigned threads) {
  std::vector<T> x(rows * columns);
  std::vector<float> sums(rows), expected(rows);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>(i * 7 % 5) - 2;
    expected[i / columns] += static_cast<float>(x[i]);
  }
  run(kernel, {rows * threads, 1, 1}, {threads, 1, 1}, {arg(x), arg(sums), arg(columns)});
  CHECK(sums == expected);  // sums of small integers are exact in any order
}

}  // namespace

TEST(reduction_with_barriers_and_simd_groups) {
  for (unsigned threads : {32u, 96u, 256u, 1000u, 1024u}) {
    if (threads > 256 && host::chaos_mode()) continue;  // more than a pipeline allows then
    for (unsigned columns : {1u, 31u, 1000u}) {
      check_row_sums<float>("test_row_sum_float", 9, columns, threads);
    }
  }
  check_row_sums<metal::half>("test_row_sum_half", 40, 300, 128);
  check_row_sums<metal::bfloat>("test_row_sum_bfloat", 40, 300, 128);
}

TEST(threadgroup_memory_of_the_caller) {
  std::vector<int> data(1000);  // a last group of 232 threads
  std::iota(data.begin(), data.end(), 0);
  std::vector<int> expected = data;
  for (size_t g = 0; g < 1000; g += 256) {
    std::reverse(expected.begin() + static_cast<long>(g),
                 expected.begin() + static_cast<long>(std::min<size_t>(g + 256, 1000)));
  }
  run("test_reverse", {1000, 1, 1}, {256, 1, 1}, {arg(data)}, 1024);
  CHECK(data == expected);
}

TEST(atomics) {
  constexpr uint32_t kCount = 50000;
  std::vector<uint32_t> x(kCount), counts(8), expected(8);
  for (uint32_t i = 0; i < kCount; ++i) ++expected[(x[i] = i * 2654435761u >> 8) % 8];
  float total = 0;
  int largest = -1;
  run("test_histogram", {kCount, 1, 1}, {256, 1, 1},
      {arg(x), arg(counts), arg(total), arg(largest)});
  CHECK(counts == expected);
  CHECK_EQ(total, kCount / 2.0f);
  CHECK_EQ(largest, static_cast<int>(*std::max_element(x.begin(), x.end())));
}

TEST(positions_in_three_dimensions) {
  constexpr unsigned kX = 10, kY = 7, kZ = 3, kGx = 4, kGy = 3, kGz = 2;
  std::vector<uint16_t> out(8 * kX * kY * kZ, 999);
  run("test_positions", {kX, kY, kZ}, {kGx, kGy, kGz}, {arg(out)});
  bool right = true;
  for (unsigned z = 0; z < kZ; ++z) {
    for (unsigned y = 0; y < kY; ++y) {
      for (unsigned x = 0; x < kX; ++x) {
        const uint16_t* row = &out[8 * ((z * kY + y) * kX + x)];
        const unsigned expected[8] = {x % kGx,
                                      y % kGy,
                                      z % kGz,
                                      x / kGx,
                                      y / kGy,
                                      z / kGz,
                                      std::min(kGx, kX - x / kGx * kGx),
                                      std::min(kGy, kY - y / kGy * kGy)};
        right &= std::equal(row, row + 8, expected);
      }
    }
  }
  CHECK(right);
}

TEST(vectors) {
  struct Arguments {  // as Metal lays it out
    alignas(16) float offset[3];
    float padding;
    float scale;
    float packed[3];
    alignas(8) uint32_t limits[2];
  } arguments{{1, 2, 3}, 0, 2, {1, 10, 100}, {5, 9}};
  static_assert(sizeof(Arguments) == 48);
  std::vector<float> data{1, 2, 3, 4, 4, -1, 0.1f, 0};
  run("test_vectors", {2, 1, 1}, {2, 1, 1}, {arg(data), arg(arguments)});
  // (1,2,3)*2 + (1,2,3) = (3,6,9), within the limits; dot = 3 + 60 + 900
  CHECK(data[0] == 3 && data[1] == 6 && data[2] == 9 && data[3] == 963);
  // (4,-1,.1)*2 + (1,2,3) = (9,0,3.2), beyond: x negated; 3.2 rounded to half
  CHECK(data[4] == -9 && data[5] == 0 && data[7] == 9 + 320.0f);
  CHECK_EQ(data[6], static_cast<float>(static_cast<_Float16>(3.2f)));
}

TEST(math) {
  std::vector<float> in{-0.5f, 2.0f, 1024.0f}, out(21);
  run("test_math", {1, 1, 1}, {1, 1, 1}, {arg(in), arg(out)});
  const std::vector<float> expected{std::exp(-0.5f),
                                    std::sqrt(2.0f),
                                    static_cast<float>(1 / std::sqrt(2.0)),
                                    std::pow(2.0f, -0.5f),
                                    0,
                                    1,
                                    0.125f,
                                    -1,
                                    8,
                                    15,
                                    24,
                                    0.75f,
                                    2,
                                    0,
                                    2048,
                                    1.0f,
                                    INFINITY,
                                    -2 + 3,
                                    std::tanh(-0.5f) + std::atan2(-0.5f, 2.0f) + 1,
                                    3,
                                    0};
  for (size_t i = 0; i < expected.size(); ++i) {
    if (out[i] != expected[i]) std::fprintf(stderr, "result %zu:\n", i);
    CHECK_EQ(out[i], expected[i]);
  }
}

TEST(simd_functions) {
  constexpr int kThreads = 70;  // two full SIMD groups and one of six lanes
  std::vector<int> out(8 * kThreads);
  run("test_simd", {kThreads, 1, 1}, {kThreads, 1, 1}, {arg(out)});
  for (int i = 0; i < kThreads; ++i) {
    const int first = i / 32 * 32, last = std::min(first + 31, kThreads - 1);
    const int* row = &out[8 * static_cast<size_t>(i)];
    CHECK_EQ(row[0], last);
    if ((i ^ 1) <= last) CHECK_EQ(row[1], i ^ 1);
    if (i + 4 <= last) CHECK_EQ(row[2], i + 4);
    CHECK_EQ(row[3], i - first);
    CHECK_EQ(row[4], first + 3);
    CHECK_EQ(row[5], first == 0 ? 1 : 0);
    CHECK_EQ(row[6], (first + i) * (i - first + 1) / 2);
    CHECK_EQ(row[7], i == first ? 1 : 0);
  }
}

TEST(rounding_of_16_bit_floats) {
  using metal::bfloat;
  using metal::half;
  CHECK_EQ(float(half(1.0f) + half(0x1p-11f)), 1.0f);  // tie to even
  CHECK_EQ(float(half(1.0f) + half(0x1.8p-11f)), 1.0f + 0x1p-10f);
  CHECK_EQ(float(half(0x1p-24f)), 0x1p-24f);  // denormals are kept
  CHECK_EQ(float(bfloat(0x1.01p0f)), 1.0f);   // tie to even
  CHECK_EQ(float(bfloat(0x1.03p0f)), 0x1.04p0f);
  CHECK_EQ(float(bfloat(3.4e38f)), INFINITY);
  CHECK(std::isnan(float(bfloat(NAN))) && std::isnan(float(half(NAN))));
  CHECK_EQ(float(half(3) / 2 + 1.5f), 3.0f);  // half with int, then with float
  CHECK(half(1) < 2 && bfloat(2) >= half(2) + 0.0f);
}

DEATH_TEST(threads_leave_before_a_barrier, "5 threads left the kernel while 27 wait") {
  int data = 0;
  run("test_leaves_before_barrier", {32, 1, 1}, {32, 1, 1}, {arg(data)});
}
DEATH_TEST(divergent_barrier, "shader: divergent barrier") {
  int data = 0;
  run("test_divergent_barrier", {32, 1, 1}, {32, 1, 1}, {arg(data)});
}
DEATH_TEST(divergent_simd_operation, "shader: divergent SIMD operation") {
  std::vector<int> data(32);
  run("test_divergent_simd", {32, 1, 1}, {32, 1, 1}, {arg(data)});
}
DEATH_TEST(threadgroup_memory_missing, "kernel test_reverse: threadgroup(0) has no memory") {
  std::vector<int> data(32);
  run("test_reverse", {32, 1, 1}, {32, 1, 1}, {arg(data)});
}

#if defined(__SANITIZE_THREAD__)
DEATH_CASE(race) {
  std::vector<int> data(64);
  run("test_race", {64, 1, 1}, {64, 1, 1}, {arg(data)});
}
TEST(thread_sanitizer_sees_a_missing_barrier) {
  const death::Outcome outcome = death::run("race");
  CHECK(outcome.stderr_text.find("data race") != std::string::npos);
  CHECK(outcome.stderr_text.find("test_msl.metal") != std::string::npos);
}
#endif

DEATH_TEST_MAIN()

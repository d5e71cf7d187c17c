// Every shader whose threads meet at barriers, without the plugin around it: ThreadSanitizer sees
// its threads as concurrent (plugin/host/msl/fiber.cc) and AddressSanitizer its buffers, so that a
// missing barrier or an index beyond a buffer ends this program (make test-sanitize). Without them
// it looks for results that are there, finite and the same each time. tests/test_shaders.py sees to
// it that no such shader is missing.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/msl/image_arguments.h"
#include "kernels/msl/linalg_arguments.h"
#include "kernels/msl/sampling_arguments.h"
#include "plugin/host/msl/fiber.h"
#include "plugin/host/msl/kernel.h"
#include "plugin/host/msl/types.h"
#include "tests/cc/death.h"

namespace {

constexpr unsigned kMatrices = 2;

// A buffer of a kernel, exactly as large as it may be.
template <class T>
std::vector<char> buffer(size_t count, float (*value)(size_t) = nullptr) {
  std::vector<T> elements(count);
  for (size_t i = 0; i < count && value; ++i) elements[i] = T(value(i));
  std::vector<char> bytes(count * sizeof(T));
  std::memcpy(bytes.data(), elements.data(), bytes.size());
  return bytes;
}
template <class T>
std::vector<char> argument(const T& value) {
  const char* bytes = reinterpret_cast<const char*>(&value);
  return {bytes, bytes + sizeof value};
}

using Buffers = std::vector<std::vector<char>>;

Buffers launch(const char* name, Buffers buffers, unsigned groups, unsigned threads) {
  const host::msl::Kernel* kernel = host::msl::find_kernel(name);
  if (!kernel) throw std::runtime_error(std::string("no kernel ") + name);
  host::msl::Launch how{{groups * threads, 1, 1}, {threads, 1, 1}, {}, {}};
  for (size_t i = 0; i < buffers.size(); ++i) how.buffers[i] = buffers[i].data();
  host::msl::launch(*kernel, how);
  return buffers;
}

// Runs it twice; `result` is the buffer of floats to look at.
void check_kernel(const char* name, const Buffers& buffers, unsigned groups, unsigned threads,
                  size_t result) {
  const Buffers first = launch(name, buffers, groups, threads);
  CHECK(first == launch(name, buffers, groups, threads));
  CHECK(first[result] != buffers[result]);
  std::vector<float> values(first[result].size() / sizeof(float));
  std::memcpy(values.data(), first[result].data(), values.size() * sizeof(float));
  for (float v : values) CHECK(std::isfinite(v));
}

// With a heavy diagonal, so that every factorization exists; more rows than the threads of a group,
// so that each has several. `shift` moves the diagonal, so that rows have to be exchanged.
constexpr unsigned kSide = LINALG_THREADS + 3;
float spread(size_t i) { return static_cast<float>(i * 7919 % 101) / 101.0f; }
// `parts` of an element: 2 when it is complex.
std::vector<char> matrices(unsigned parts, unsigned shift = 0) {
  std::vector<float> m(size_t{kMatrices} * kSide * kSide * parts);
  for (unsigned k = 0; k < kMatrices; ++k) {
    for (unsigned row = 0; row < kSide; ++row) {
      for (unsigned column = 0; column < kSide; ++column) {
        const float value =
            spread(size_t{row + column} + k) + ((row + shift) % kSide == column ? 100.0f : 0.0f);
        m[((size_t{k} * kSide + row) * kSide + column) * parts] = value;
      }
    }
  }
  std::vector<char> bytes(m.size() * sizeof(float));
  std::memcpy(bytes.data(), m.data(), bytes.size());
  return bytes;
}
LinalgArguments square(unsigned inner) {
  LinalgArguments a = {};
  a.rows = a.columns = kSide;
  a.inner = inner;
  return a;
}

struct Element {
  const char* suffix;
  unsigned parts;
};
constexpr Element kElements[] = {{"_float", 1}, {"_float2", 2}};
std::vector<char> floats(size_t count) { return buffer<float>(count); }

}  // namespace

TEST(linalg_lu) {
  for (const Element& e : kElements) {
    check_kernel((std::string("linalg_lu") + e.suffix).c_str(),
                 {matrices(e.parts, 1), buffer<int>(kMatrices * kSide), buffer<int>(2 * kMatrices),
                  argument(square(0))},
                 kMatrices, LINALG_THREADS, 0);
  }
}

TEST(linalg_cholesky) {
  for (const Element& e : kElements) {
    check_kernel((std::string("linalg_cholesky") + e.suffix).c_str(),
                 {matrices(e.parts), floats(size_t{kMatrices} * kSide * kSide * e.parts),
                  argument(square(0))},
                 kMatrices, LINALG_THREADS, 1);
  }
}

TEST(linalg_qr) {
  for (const Element& e : kElements) {
    check_kernel(
        (std::string("linalg_qr") + e.suffix).c_str(),
        {matrices(e.parts), floats(size_t{kMatrices} * kSide * e.parts), argument(square(0))},
        kMatrices, LINALG_THREADS, 0);
  }
}

TEST(linalg_svd) {
  constexpr size_t kAll = size_t{kSide} * kSide, kEach = 3 * kAll + 2 * kSide + 1;
  check_kernel("linalg_svd_float",
               {matrices(1), floats(kMatrices * kEach), floats(kMatrices * kSide),
                floats(kMatrices * kAll), floats(kMatrices * kAll), argument(square(kSide))},
               kMatrices, LINALG_THREADS, 2);
}

TEST(left_vectors_beyond_the_rank) {
  constexpr unsigned kCount = kSide - 7;
  constexpr size_t kAll = size_t{kSide} * kSide;
  constexpr size_t kEach = kSide * kCount + kCount * kCount + kCount + kSide * (kSide + 1) + 1;
  LinalgArguments tall = square(kSide);
  tall.columns = kCount;
  check_kernel("linalg_svd_float",
               {matrices(1), floats(kMatrices * kEach), floats(kMatrices * kCount),
                floats(kMatrices * kAll), floats(kMatrices * kCount * kCount), argument(tall)},
               kMatrices, LINALG_THREADS, 3);
}

TEST(linalg_eigh) {
  for (const Element& e : kElements) {
    const size_t all = size_t{kSide} * kSide * e.parts;
    check_kernel((std::string("linalg_eigh") + e.suffix).c_str(),
                 {matrices(e.parts), floats(kMatrices * (2 * all + (2 * kSide + 2) * e.parts)),
                  floats(size_t{kMatrices} * kSide * e.parts), floats(kMatrices * all),
                  buffer<int>(2 * kMatrices), argument(square(1))},
                 kMatrices, LINALG_THREADS, 3);
  }
}

TEST(class_sums) {
  constexpr unsigned kRows = 3, kClasses = 1000;
  ClassesArguments a = {};
  a.classes = kClasses;
  a.threads = kClasses / 8;
  a.samples = 1;
  a.one = 0x1p30f;
  const std::vector<char> logits[] = {buffer<float>(kRows * kClasses, spread),
                                      buffer<metal::half>(kRows * kClasses, spread),
                                      buffer<metal::bfloat>(kRows * kClasses, spread)};
  const char* names[] = {"class_sums_float", "class_sums_half", "class_sums_bfloat"};
  for (int i = 0; i < 3; ++i) {
    const Buffers sums = {logits[i], buffer<uint64_t>(kRows * kClasses), argument(a)};
    const Buffers first = launch(names[i], sums, kRows, a.threads);
    CHECK(first == launch(names[i], sums, kRows, a.threads));
    std::vector<uint64_t> rising(kRows * kClasses);
    std::memcpy(rising.data(), first[1].data(), first[1].size());
    for (size_t c = 1; c < kClasses; ++c) CHECK(rising[c] > rising[c - 1]);
  }
}

TEST(crop_and_resize_grad_boxes) {
  constexpr unsigned kSize = 8, kChannels = 3, kBoxes = 2, kCrop = 6;
  CropArguments c = {};
  c.type = kElementFloat;
  c.batch = 1;
  c.height = c.width = kSize;
  c.channels = kChannels;
  c.boxes = kBoxes;
  c.crop_height = c.crop_width = kCrop;
  const auto corner = [](size_t i) { return i % 4 < 2 ? 0.1f : 0.8f; };
  check_kernel("crop_and_resize_grad_boxes",
               {buffer<float>(kBoxes * kCrop * kCrop * kChannels, spread),
                buffer<float>(kSize * kSize * kChannels, spread), buffer<float>(4 * kBoxes, corner),
                buffer<int>(kBoxes), floats(4 * kBoxes), argument(c)},
               kBoxes, IMAGE_THREADS, 4);
}

// A barrier orders the memory that its flags name: device memory needs barriers that say so.
#if defined(__SANITIZE_THREAD__)
namespace {

// Reports about memory at `place` when only barriers that order `memory` count.
void run_kernels_looking_at(host::msl::Memory memory) {
  host::msl::look_at(memory);
  for (const check::Test& test : check::tests()) {
    if (!std::strstr(test.name, "barriers_order_device")) test.run();
  }
}
std::string reports_about(const char* place, const char* death_case) {
  const char* options = "TSAN_OPTIONS=halt_on_error=0:exitcode=0";
  const std::string text = death::run(death_case, {options}).stderr_text;
  const std::string line = "==================";
  std::string found;
  for (size_t at = text.find(line); at != std::string::npos;) {
    const size_t next = text.find(line, at + line.size());
    const std::string report = text.substr(at, next - at);
    if (report.find("data race") != std::string::npos && report.find(place) != std::string::npos) {
      found += report;
    }
    at = next;
  }
  return found;
}

}  // namespace

DEATH_CASE(device_memory) { run_kernels_looking_at(host::msl::kDeviceMemory); }
TEST(barriers_order_device_memory) {
  CHECK_EQ(reports_about("Location is heap block", "device_memory"), "");
}
#endif

DEATH_TEST_MAIN()

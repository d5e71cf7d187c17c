#include <cstdlib>
#include <cstring>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "plugin/device/allocator.h"
#include "plugin/device/device.h"
#include "plugin/error.h"
#include "tests/cc/check.h"

using tfmetal::Allocator;
using tfmetal::Device;

namespace {

constexpr size_t kMiB = size_t{1} << 20;

mtl::Device metal() { return Device::all().at(0)->metal(); }

bool throws_internal(const Allocator& allocator, const void* pointer) {
  try {
    allocator.resolve(pointer);
  } catch (const tfmetal::Error& e) {
    return e.code == TF_INTERNAL;
  }
  return false;
}

}  // namespace

TEST(size_classes_waste_at_most_an_eighth) {
  std::mt19937_64 random(1);
  size_t last_size = 0, last_class = 0;
  for (int i = 0; i < 200000; ++i) {
    const size_t bytes = i < 100000 ? size_t(i) : random() >> (24 + i % 39);
    const size_t size = Allocator::size_class(bytes);
    CHECK(size >= bytes);
    CHECK(size >= 256 && size % 256 == 0);
    CHECK(size <= 256 || size - bytes <= bytes / 8 || size - bytes < 256);
    CHECK(size - bytes <= 8 * kMiB);
    CHECK_EQ(Allocator::size_class(size), size);
    if (bytes >= last_size) CHECK(size >= last_class);
    last_size = bytes, last_class = size;
  }
}

TEST(few_classes_per_doubling) {
  std::set<size_t> classes;
  for (size_t bytes = kMiB + 1; bytes <= 2 * kMiB; bytes += 64) {
    classes.insert(Allocator::size_class(bytes));
  }
  CHECK_EQ(classes.size(), 8u);
}

TEST(zero_bytes_and_null) {
  Allocator allocator(metal(), 64 * kMiB);
  void* a = allocator.allocate(0);
  void* b = allocator.allocate(0);
  CHECK(a && b && a != b);
  CHECK_EQ(allocator.resolve(a).offset, 0u);
  allocator.deallocate(a);
  allocator.deallocate(b);
  allocator.deallocate(nullptr);
  CHECK_EQ(allocator.info().in_use, 0);
}

TEST(interior_pointers_resolve) {
  Allocator allocator(metal(), 64 * kMiB);
  std::vector<char*> pointers;
  for (size_t i = 0; i < 300; ++i) {
    pointers.push_back(static_cast<char*>(allocator.allocate(1000 + 700 * i)));
  }
  for (int round = 0; round < 3; ++round) {
    for (size_t i = 0; i < pointers.size(); ++i) {
      for (size_t offset : {size_t{0}, size_t{1}, size_t{999}, 999 + 700 * i}) {
        const auto slice = allocator.resolve(pointers[i] + offset);
        CHECK_EQ(slice.offset, offset);
        CHECK(slice.block->contents == pointers[i]);
        CHECK(slice.contents() == pointers[i] + offset);
        CHECK_EQ(slice.block->requested, 1000 + 700 * i);
        CHECK(slice.buffer().contents() == pointers[i]);
      }
    }
  }
  for (char* pointer : pointers) allocator.deallocate(pointer);
}

TEST(resolve_rejects_what_is_not_ours) {
  Allocator allocator(metal(), 64 * kMiB), other(metal(), 64 * kMiB);
  char* ours = static_cast<char*>(allocator.allocate(4096));
  char* theirs = static_cast<char*>(other.allocate(4096));
  int local;
  CHECK(allocator.owns(ours) && !allocator.owns(theirs));
  CHECK(other.owns(theirs) && !other.owns(ours));
  CHECK(throws_internal(allocator, &local));
  CHECK(throws_internal(allocator, nullptr));
  CHECK(throws_internal(allocator, theirs));
  CHECK(throws_internal(allocator, ours + allocator.resolve(ours).block->size));
  // Freed, then given back to Metal: the lookup cache of this thread must not remember it.
  allocator.deallocate(ours);
  CHECK(throws_internal(allocator, ours));
  allocator.trim();
  CHECK(throws_internal(allocator, ours));
  other.deallocate(theirs);
}

TEST(wrong_frees_are_survived) {
  Allocator allocator(metal(), 64 * kMiB);
  char* block = static_cast<char*>(allocator.allocate(4096));
  int local;
  allocator.deallocate(&local);
  allocator.deallocate(block + 1);
  CHECK(allocator.owns(block));
  allocator.deallocate(block);
  allocator.deallocate(block);
  CHECK_EQ(allocator.info().in_use, 0);
  void* again = allocator.allocate(4096);
  void* another = allocator.allocate(4096);
  CHECK(again != another);  // a double free must not hand a block out twice
  allocator.deallocate(again);
  allocator.deallocate(another);
}

TEST(freed_blocks_are_reused_and_counted) {
  Allocator allocator(metal(), 64 * kMiB);
  void* a = allocator.allocate(5 * kMiB);
  const auto size = static_cast<int64_t>(Allocator::size_class(5 * kMiB));
  CHECK_EQ(allocator.info().in_use, size);
  allocator.deallocate(a);
  CHECK_EQ(allocator.info().in_use, 0);
  CHECK_EQ(allocator.info().reserved, size);
  CHECK(allocator.allocate(5 * kMiB - 100) == a);
  CHECK_EQ(allocator.info().reserved, size);
  CHECK_EQ(allocator.info().peak, size);
  CHECK_EQ(allocator.info().allocations, 2);
  CHECK_EQ(allocator.info().largest, int64_t(5 * kMiB));
  allocator.deallocate(a);
  allocator.reset_peak();
  CHECK_EQ(allocator.info().peak, 0);
  allocator.trim();
  CHECK_EQ(allocator.info().reserved, 0);
}

TEST(limit_is_kept_and_idle_blocks_make_room) {
  Allocator allocator(metal(), 10 * kMiB);
  std::vector<void*> blocks;
  while (void* block = allocator.allocate(kMiB)) blocks.push_back(block);
  CHECK_EQ(blocks.size(), 10u);
  CHECK_EQ(allocator.info().reserved, int64_t(10 * kMiB));
  CHECK(!allocator.allocate(1));
  for (int i = 0; i < 4; ++i) {
    allocator.deallocate(blocks.back());
    blocks.pop_back();
  }
  void* large = allocator.allocate(4 * kMiB);  // of another class
  CHECK(large);
  CHECK_EQ(allocator.info().reserved, int64_t(10 * kMiB));
  CHECK(!allocator.allocate(kMiB));
  allocator.deallocate(large);
  for (void* block : blocks) allocator.deallocate(block);
}

TEST(blocks_go_back_above_the_watermark_oldest_first) {
  Allocator allocator(metal(), 100 * kMiB);
  void* old = allocator.allocate(30 * kMiB);
  void* young = allocator.allocate(40 * kMiB);
  allocator.deallocate(old);
  allocator.deallocate(young);
  void* third = allocator.allocate(20 * kMiB);  // 90 MiB would be reserved: above 85 %
  CHECK_EQ(allocator.info().reserved, int64_t(60 * kMiB));
  CHECK(allocator.allocate(40 * kMiB) == young);
  allocator.deallocate(young);
  allocator.deallocate(third);
}

TEST(sizes_that_never_come_back_do_not_pile_up) {
  Allocator allocator(metal(), 4096 * kMiB);
  for (size_t i = 1; i <= 400; ++i) {
    void* block = allocator.allocate(i * kMiB / 4);
    CHECK(block);
    allocator.deallocate(block);
  }
  CHECK(allocator.info().reserved <= int64_t(150 * kMiB));  // 100 MiB were in use at once
  CHECK(allocator.info().reserved >= int64_t(100 * kMiB));
}

TEST(more_than_a_buffer_can_hold) {
  Allocator allocator(metal(), UINT64_MAX / 2);
  CHECK(!allocator.allocate(metal().max_buffer_length() + 1));
  CHECK(!allocator.allocate(SIZE_MAX));
  CHECK_EQ(allocator.info().reserved, 0);
}

TEST(poison_marks_new_and_freed_memory) {
  setenv("TF_METAL_POISON", "1", 1);
  Allocator allocator(metal(), 64 * kMiB);
  unsetenv("TF_METAL_POISON");
  auto all_nan = [](const char* bytes) {
    for (int i = 0; i < 4096; ++i) {
      if (static_cast<unsigned char>(bytes[i]) != 0xff) return false;
    }
    return true;
  };
  char* block = static_cast<char*>(allocator.allocate(4096));
  CHECK(all_nan(block));
  std::memset(block, 1, 4096);
  allocator.deallocate(block);
  CHECK(all_nan(block));  // the memory is still reserved
  CHECK(allocator.allocate(4096) == block);
  allocator.deallocate(block);
}

TEST(eight_threads) {
  Allocator allocator(metal(), 256 * kMiB);
  std::atomic<int> wrong{0};
  auto work = [&](unsigned seed) {
    std::mt19937 random(seed);
    std::vector<std::pair<unsigned char*, size_t>> mine;
    for (int i = 0; i < 3000; ++i) {
      if (mine.size() < 20 && random() % 2) {
        const size_t size = 1 + random() % 20000;
        auto* block = static_cast<unsigned char*>(allocator.allocate(size));
        if (!block) ++wrong;
        std::memset(block, static_cast<int>(seed), size);
        mine.push_back({block, size});
      } else if (!mine.empty()) {
        const size_t k = random() % mine.size();
        auto [block, size] = mine[k];
        const size_t offset = random() % size;
        if (allocator.resolve(block + offset).offset != offset) ++wrong;
        for (size_t j = 0; j < size; ++j) wrong += block[j] != seed;
        allocator.deallocate(block);
        mine.erase(mine.begin() + static_cast<long>(k));
      }
      if (i % 500 == 0) allocator.trim();
    }
    for (auto& [block, size] : mine) allocator.deallocate(block);
  };
  std::vector<std::thread> threads;
  for (unsigned seed = 1; seed <= 8; ++seed) threads.emplace_back(work, seed);
  for (auto& thread : threads) thread.join();
  CHECK_EQ(wrong.load(), 0);
  CHECK_EQ(allocator.info().in_use, 0);
  allocator.trim();
  CHECK_EQ(allocator.info().reserved, 0);
}

TEST_MAIN()

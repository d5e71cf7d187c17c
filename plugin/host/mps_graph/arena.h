// Plans who gets which part of a block of memory, and when.
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>

namespace host {

// Hands out ranges, lowest address first.
class ArenaPlanner {
 public:
  static constexpr size_t kAlignment = 64;

  size_t take(size_t bytes) {
    bytes = std::max(aligned(bytes), kAlignment);
    size_t at = 0;
    for (const auto& [begin, size] : used_) {
      if (begin - at >= bytes) break;
      at = begin + size;
    }
    used_[at] = bytes;
    total_ = std::max(total_, at + bytes);
    return at;
  }
  void give_back(size_t at) { used_.erase(at); }
  size_t total() const { return total_; }

  static size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

 private:
  std::map<size_t, size_t> used_;  // begin -> size
  size_t total_ = 0;
};

}  // namespace host

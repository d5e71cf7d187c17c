#include "plugin/host/mps_graph/strided_copy.h"

#include <algorithm>

namespace host {
namespace {

struct Loop {
  long extent, from, to;  // strides in elements
};

// Drops extents of 1 and merges neighbours that are contiguous on both sides.
std::vector<Loop> make_loops(const Shape& shape, const Shape& from, const Shape& to) {
  std::vector<Loop> loops;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 1) continue;
    const Loop loop{shape[i], from[i], to[i]};
    if (!loops.empty() && loops.back().from == loop.from * loop.extent &&
        loops.back().to == loop.to * loop.extent) {
      loops.back() = {loops.back().extent * loop.extent, loop.from, loop.to};
    } else {
      loops.push_back(loop);
    }
  }
  return loops;
}

template <class T>
void copy_run(const Loop& loop, const T* from, T* to) {
  if (loop.from == 1 && loop.to == 1) {
    std::memcpy(to, from, loop.extent * sizeof(T));
  } else if (loop.from == 0 && loop.to == 1) {
    std::fill_n(to, loop.extent, *from);
  } else {
    for (long i = 0; i < loop.extent; ++i) to[i * loop.to] = from[i * loop.from];
  }
}

// Two loops of which one reads and the other writes contiguously: in tiles, so that neither side
// walks through memory with long steps only.
template <class T>
void copy_transposed(const Loop& outer, const Loop& inner, const T* from, T* to) {
  constexpr long kTile = 64 / sizeof(T) >= 16 ? 32 : 16;
  for (long i = 0; i < outer.extent; i += kTile) {
    const long rows = std::min(kTile, outer.extent - i);
    for (long j = 0; j < inner.extent; j += kTile) {
      const long columns = std::min(kTile, inner.extent - j);
      for (long r = 0; r < rows; ++r) {
        const T* x = from + (i + r) * outer.from + j * inner.from;
        T* y = to + (i + r) * outer.to + j * inner.to;
        for (long c = 0; c < columns; ++c) y[c * inner.to] = x[c * inner.from];
      }
    }
  }
}

template <class T>
void copy_loops(std::vector<Loop> loops, const T* from, T* to) {
  if (loops.empty()) loops.push_back({1, 1, 1});
  // The innermost one or two loops are done by copy_run or copy_transposed.
  size_t bodies = 1;
  if (loops.back().from != 1 && loops.back().to == 1) {
    for (size_t i = 0; i + 1 < loops.size(); ++i) {
      if (loops[i].from != 1) continue;
      std::rotate(loops.begin() + i, loops.begin() + i + 1, loops.end() - 1);
      bodies = 2;
      break;
    }
  }
  const size_t outer = loops.size() - bodies;
  long runs = 1, run = 1;
  for (size_t i = 0; i < loops.size(); ++i) (i < outer ? runs : run) *= loops[i].extent;
  // One big run: cut its outer loop.
  if (runs == 1 && run > 2 * kGrain) {
    const Loop whole = loops[outer];
    parallel(whole.extent, std::max(1l, kGrain / std::max(1l, run / whole.extent)),
             [&](long begin, long end) {
               const Loop part{end - begin, whole.from, whole.to};
               const T* x = from + begin * whole.from;
               T* y = to + begin * whole.to;
               bodies == 2 ? copy_transposed(part, loops.back(), x, y) : copy_run(part, x, y);
             });
    return;
  }
  parallel(runs, std::max(1l, kGrain / run), [&](long begin, long end) {
    for (long index = begin; index < end; ++index) {
      const T* x = from;
      T* y = to;
      for (long i = long(outer) - 1, rest = index; i >= 0; rest /= loops[i--].extent) {
        const long at = rest % loops[i].extent;
        x += at * loops[i].from;
        y += at * loops[i].to;
      }
      bodies == 2 ? copy_transposed(loops[outer], loops.back(), x, y)
                  : copy_run(loops[outer], x, y);
    }
  });
}

}  // namespace

void strided_copy(DataType type, const Shape& shape, const char* from, const Shape& from_strides,
                  char* to, const Shape& to_strides) {
  if (element_count(shape) == 0) return;
  dispatch_bits(type, [&]<class T>(TypeOf<T>) {
    copy_loops(make_loops(shape, from_strides, to_strides), reinterpret_cast<const T*>(from),
               reinterpret_cast<T*>(to));
  });
}

}  // namespace host

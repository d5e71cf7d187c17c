#include "plugin/host/mps_graph/column_sums.h"

#include <algorithm>

#include "plugin/host/mps_graph/isa.h"

namespace host {
namespace {

constexpr long kLanes = 64;   // columns that a loop keeps in registers
constexpr long kBlock = 256;  // rows summed before they join the total: keeps errors small

// to[j] += sum of rows.
template <bool kSquares, class T>
void add_rows(const T* x, long rows, long columns, const float* mean, float* to) {
  isa::run(
      [](const T* __restrict from, long count, long width, const float* __restrict center,
         float* __restrict total) {
        const auto value = [&](long i, long j) {
          const float v = to_float(from[i * width + j]);
          if constexpr (!kSquares) return v;
          const float d = v - center[j];
          return d * d;
        };
        long j = 0;
        for (; j + kLanes <= width; j += kLanes) {
          float sum[kLanes] = {};
          for (long i = 0; i < count; ++i) {
            for (long l = 0; l < kLanes; ++l) sum[l] += value(i, j + l);
          }
          for (long l = 0; l < kLanes; ++l) total[j + l] += sum[l];
        }
        if (j == width) return;
        float sum[kLanes] = {};
        for (long i = 0; i < count; ++i) {
          for (long l = 0; l < width - j; ++l) sum[l] += value(i, j + l);
        }
        for (long l = 0; l < width - j; ++l) total[j + l] += sum[l];
      },
      x, rows, columns, mean, to);
}

template <class T>
void sum_columns(const T* x, long rows, long columns, const float* mean, float* sums) {
  // Parts of fixed size: the result does not depend on threads.
  const long part = std::max(kBlock, (4 * kGrain / columns + kBlock - 1) / kBlock * kBlock);
  const long parts = (rows + part - 1) / part;
  std::vector<float> partial(size_t(parts * columns));
  parallel(parts, 1, [&](long begin, long end) {
    for (long p = begin; p < end; ++p) {
      float* to = partial.data() + p * columns;
      for (long i = p * part; i < std::min(rows, (p + 1) * part); i += kBlock) {
        const long n = std::min(kBlock, rows - i);
        if (mean) {
          add_rows<true>(x + i * columns, n, columns, mean, to);
        } else {
          add_rows<false>(x + i * columns, n, columns, mean, to);
        }
      }
    }
  });
  std::fill(sums, sums + columns, 0.0f);
  for (long p = 0; p < parts; ++p) {
    for (long j = 0; j < columns; ++j) sums[j] += partial[size_t(p * columns + j)];
  }
}

}  // namespace

void column_sums(const void* x, DataType type, long rows, long columns, const float* mean,
                 float* sums) {
  dispatch(type, [&]<class T>(TypeOf<T>) {
    if constexpr (std::is_same_v<T, float> || std::is_same_v<T, Half> ||
                  std::is_same_v<T, BFloat>) {
      sum_columns(static_cast<const T*>(x), rows, columns, mean, sums);
    }
  });
}

float squared_distances(const float* x, long n, float mean) {
  float total = 0;
  isa::run(
      [](const float* __restrict from, long count, float center, float* __restrict result) {
        float sum[kLanes] = {};
        long i = 0;
        for (; i + kLanes <= count; i += kLanes) {
          for (long l = 0; l < kLanes; ++l) {
            const float d = from[i + l] - center;
            sum[l] += d * d;
          }
        }
        for (; i < count; ++i) sum[i % kLanes] += (from[i] - center) * (from[i] - center);
        for (float s : sum) *result += s;
      },
      x, n, mean, &total);
  return total;
}

}  // namespace host

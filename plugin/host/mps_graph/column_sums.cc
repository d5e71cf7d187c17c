#include "plugin/host/mps_graph/column_sums.h"

#include <algorithm>

#include "plugin/host/mps_graph/isa.h"

namespace host {
namespace {

constexpr long kLanes = 64;   // columns that a loop keeps in registers
constexpr long kBlock = 256;  // rows summed before they join the total: keeps errors small

enum class Term { Plain, Square, Product };  // x, (x - mean)^2, (x - mean) * y

// to[j] += sum of rows.
template <Term kTerm, class T>
void add_rows(const T* x, const T* y, long rows, long columns, const float* mean, float* to) {
  isa::run(
      [](const T* __restrict from, const T* __restrict by, long count, long width,
         const float* __restrict center, float* __restrict total) {
        const auto value = [&](long i, long j) {
          const float v = to_float(from[i * width + j]);
          if constexpr (kTerm == Term::Plain) return v;
          const float d = v - center[j];
          return d * (kTerm == Term::Square ? d : to_float(by[i * width + j]));
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
      x, y, rows, columns, mean, to);
}

template <Term kTerm, class T>
void sum_columns(const T* x, const T* y, long rows, long columns, const float* mean, float* sums) {
  // Parts of fixed size: the result does not depend on threads.
  const long part = std::max(kBlock, (4 * kGrain / columns + kBlock - 1) / kBlock * kBlock);
  const long parts = (rows + part - 1) / part;
  std::vector<float> partial(size_t(parts * columns));
  parallel(parts, 1, [&](long begin, long end) {
    for (long p = begin; p < end; ++p) {
      float* to = partial.data() + p * columns;
      for (long i = p * part; i < std::min(rows, (p + 1) * part); i += kBlock) {
        const long n = std::min(kBlock, rows - i);
        add_rows<kTerm>(x + i * columns, y + i * columns, n, columns, mean, to);
      }
    }
  });
  std::fill(sums, sums + columns, 0.0f);
  for (long p = 0; p < parts; ++p) {
    for (long j = 0; j < columns; ++j) sums[j] += partial[size_t(p * columns + j)];
  }
}

// The sum of (x - mean) * y over n neighbours.
template <class T>
float run_products(const T* x, const T* y, long n, float mean) {
  float total = 0;
  isa::run(
      [](const T* __restrict from, const T* __restrict by, long count, float center,
         float* __restrict result) {
        float sum[kLanes] = {};
        long i = 0;
        for (; i + kLanes <= count; i += kLanes) {
          for (long l = 0; l < kLanes; ++l) {
            sum[l] += (to_float(from[i + l]) - center) * to_float(by[i + l]);
          }
        }
        for (; i < count; ++i) sum[i % kLanes] += (to_float(from[i]) - center) * to_float(by[i]);
        for (float s : sum) *result += s;
      },
      x, y, n, mean, &total);
  return total;
}

template <class F>
void dispatch_floats(DataType type, F&& f) {
  dispatch(type, [&]<class T>(TypeOf<T> t) {
    if constexpr (std::is_same_v<T, float> || std::is_same_v<T, Half> ||
                  std::is_same_v<T, BFloat>) {
      f(t);
    }
  });
}

}  // namespace

void column_sums(const void* x, DataType type, long rows, long columns, const float* mean,
                 float* sums) {
  dispatch_floats(type, [&]<class T>(TypeOf<T>) {
    const T* from = static_cast<const T*>(x);
    if (mean) {
      sum_columns<Term::Square>(from, from, rows, columns, mean, sums);
    } else {
      sum_columns<Term::Plain>(from, from, rows, columns, mean, sums);
    }
  });
}

void centred_products(const void* x, const void* dy, DataType type, long outer, long channels,
                      long inner, const float* mean, float* sums) {
  dispatch_floats(type, [&]<class T>(TypeOf<T>) {
    const T *from = static_cast<const T*>(x), *by = static_cast<const T*>(dy);
    if (inner == 1) return sum_columns<Term::Product>(from, by, outer, channels, mean, sums);
    parallel(channels, std::max(1l, kGrain / (outer * inner)), [&](long begin, long end) {
      for (long c = begin; c < end; ++c) {
        sums[c] = 0;
        for (long o = 0; o < outer; ++o) {
          const long at = (o * channels + c) * inner;
          sums[c] += run_products(from + at, by + at, inner, mean[c]);
        }
      }
    });
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

// Packed GEMM in the manner of Goto: panels of A and B are copied into the order in which the
// micro-kernel reads them, widened to float32 on the way; the kernel keeps a tile of C in
// registers.
#include "plugin/host/mps_graph/gemm.h"

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "plugin/host/mps_graph/graph.h"
#include "plugin/host/mps_graph/isa.h"
#include "plugin/host/mps_graph/kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace host {
namespace {

// Block sizes: a strip of B (kDepth x tile) stays in L1, a panel of A (kRows x kDepth) in L2.
constexpr long kDepth = 384;
constexpr long kRows = 168;      // a multiple of every tile height
constexpr long kColumns = 2048;  // a multiple of every tile width
constexpr size_t kAlignment = 64;

// Adds (or stores, when `first`) the product of a packed strip of A, tile rows x k, and one of B,
// k x tile columns, to C with rows `stride` apart.
using MicroKernel = void (*)(long k, const float* a, const float* b, float* c, long stride,
                             bool first);
struct Tile {
  long rows, columns;
  MicroKernel kernel;
};

// One body for all instruction sets: V is a vector of floats, `madd` the fused operation.
#define MICRO_KERNEL(name, attributes, V, kTileRows, kVectors, broadcast, madd)       \
  attributes void name(long k, const float* a, const float* b, float* c, long stride, \
                       bool first) {                                                  \
    constexpr long kLanes = sizeof(V) / sizeof(float);                                \
    V sum[kTileRows][kVectors] = {};                                                  \
    for (long p = 0; p < k; ++p, a += kTileRows, b += kVectors * kLanes) {            \
      V column[kVectors];                                                             \
      _Pragma("GCC unroll 4") for (long v = 0; v < kVectors; ++v) {                   \
        __builtin_memcpy(&column[v], b + v * kLanes, sizeof(V));                      \
      }                                                                               \
      _Pragma("GCC unroll 16") for (long i = 0; i < kTileRows; ++i) {                 \
        const V row = broadcast(a[i]);                                                \
        _Pragma("GCC unroll 4") for (long v = 0; v < kVectors; ++v) {                 \
          sum[i][v] = madd(row, column[v], sum[i][v]);                                \
        }                                                                             \
      }                                                                               \
    }                                                                                 \
    _Pragma("GCC unroll 16") for (long i = 0; i < kTileRows; ++i) {                   \
      _Pragma("GCC unroll 4") for (long v = 0; v < kVectors; ++v) {                   \
        float* to = c + i * stride + v * kLanes;                                      \
        V old = {};                                                                   \
        if (!first) __builtin_memcpy(&old, to, sizeof(V));                            \
        old += sum[i][v];                                                             \
        __builtin_memcpy(to, &old, sizeof(V));                                        \
      }                                                                               \
    }                                                                                 \
  }

using Vector4 = float __attribute__((vector_size(16)));
inline Vector4 broadcast4(float x) { return Vector4{x, x, x, x}; }
inline Vector4 madd4(Vector4 a, Vector4 b, Vector4 c) { return a * b + c; }
#if defined(__aarch64__)
MICRO_KERNEL(kernel_baseline, , Vector4, 8, 2, broadcast4, madd4)
constexpr Tile kBaseline{8, 8, &kernel_baseline};
#else
MICRO_KERNEL(kernel_baseline, , Vector4, 4, 2, broadcast4, madd4)
constexpr Tile kBaseline{4, 8, &kernel_baseline};
#endif
#if defined(__x86_64__)
MICRO_KERNEL(kernel_avx2, HOST_AVX2, __m256, 6, 2, _mm256_set1_ps, _mm256_fmadd_ps)
MICRO_KERNEL(kernel_avx512, HOST_AVX512, __m512, 14, 2, _mm512_set1_ps, _mm512_fmadd_ps)
constexpr Tile kAvx2{6, 16, &kernel_avx2};
constexpr Tile kAvx512{14, 32, &kernel_avx512};
#endif

const Tile& best_tile() {
#if defined(__x86_64__)
  if (isa::level() == isa::Level::Avx512) return kAvx512;
  if (isa::level() == isa::Level::Avx2) return kAvx2;
#endif
  return kBaseline;
}

struct Free {
  void operator()(float* p) const { std::free(p); }
};
// Aligned scratch memory of this thread; grows, and keeps its size.
class Scratch {
 public:
  float* get(long count) {
    if (count > size_) {
      const size_t bytes = (count * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment;
      memory_.reset(static_cast<float*>(std::aligned_alloc(kAlignment, bytes)));
      size_ = count;
    }
    return memory_.get();
  }

 private:
  std::unique_ptr<float, Free> memory_;
  long size_ = 0;
};

// Copies `lines` x `depth` elements into strips of `width` lines: strip s holds for every p the
// elements (s * width ... s * width + width - 1, p). Missing lines are zero. A packs its rows,
// B its columns.
template <class T>
void pack(const T* from, long line_stride, long depth_stride, long lines, long depth, long width,
          float* to) {
  isa::run(
      [](const T* __restrict x, long line_step, long depth_step, long line_count, long depth_count,
         long strip, float* __restrict y) {
        for (long s = 0; s < line_count; s += strip, y += strip * depth_count) {
          const long used = std::min(strip, line_count - s);
          const T* source = x + s * line_step;
          if (line_step == 1 && used == strip) {
            for (long p = 0; p < depth_count; ++p) {
              for (long l = 0; l < strip; ++l)
                y[p * strip + l] = to_float(source[p * depth_step + l]);
            }
            continue;
          }
          for (long p = 0; p < depth_count; ++p) {
            for (long l = 0; l < used; ++l) {
              y[p * strip + l] = to_float(source[p * depth_step + l * line_step]);
            }
            for (long l = used; l < strip; ++l) y[p * strip + l] = 0;
          }
        }
      },
      from, line_stride, depth_stride, lines, depth, width, to);
}

void pack(const Matrix& matrix, long line, long depth_at, bool lines_are_rows, long lines,
          long depth, long width, float* to) {
  const long line_stride = lines_are_rows ? matrix.row_stride : matrix.column_stride;
  const long depth_stride = lines_are_rows ? matrix.column_stride : matrix.row_stride;
  const char* from =
      matrix.data + (line * line_stride + depth_at * depth_stride) * long(size_of(matrix.type));
  dispatch(matrix.type, [&]<class T>(TypeOf<T>) {
    if constexpr (std::is_same_v<T, float> || std::is_same_v<T, Half> ||
                  std::is_same_v<T, BFloat>) {
      pack(reinterpret_cast<const T*>(from), line_stride, depth_stride, lines, depth, width, to);
    }
  });
}

// C block += packed A * packed B.
void multiply_block(const Tile& tile, long m, long n, long k, const float* a, const float* b,
                    float* c, long stride, bool first) {
  float edge[14 * 32];
  for (long j = 0; j < n; j += tile.columns) {
    const long columns = std::min(tile.columns, n - j);
    for (long i = 0; i < m; i += tile.rows) {
      const long rows = std::min(tile.rows, m - i);
      float* to = c + i * stride + j;
      if (rows == tile.rows && columns == tile.columns) {
        tile.kernel(k, a + i * k, b + j * k, to, stride, first);
        continue;
      }
      tile.kernel(k, a + i * k, b + j * k, edge, tile.columns, true);
      for (long r = 0; r < rows; ++r) {
        for (long s = 0; s < columns; ++s) {
          to[r * stride + s] = edge[r * tile.columns + s] + (first ? 0 : to[r * stride + s]);
        }
      }
    }
  }
}

// Rows [row, row + m) and columns [column, column + n) of C, on this thread.
void multiply_part(long row, long m, long column, long n, long k, const Matrix& a, const Matrix& b,
                   float* c, long stride) {
  thread_local Scratch scratch_a, scratch_b;
  const Tile& tile = best_tile();
  const auto padded = [](long x, long unit) { return (x + unit - 1) / unit * unit; };
  const long depth_block = std::min(k, kDepth), row_block = std::min(m, kRows);
  const long column_block = std::min(n, kColumns);
  float* packed_a = scratch_a.get(padded(row_block, tile.rows) * depth_block);
  float* packed_b = scratch_b.get(padded(column_block, tile.columns) * depth_block);
  for (long j = 0; j < n; j += kColumns) {
    const long columns = std::min(kColumns, n - j);
    for (long p = 0; p < k; p += kDepth) {
      const long depth = std::min(kDepth, k - p);
      pack(b, column + j, p, false, columns, depth, tile.columns, packed_b);
      for (long i = 0; i < m; i += kRows) {
        const long rows = std::min(kRows, m - i);
        pack(a, row + i, p, true, rows, depth, tile.rows, packed_a);
        multiply_block(tile, rows, columns, depth, packed_a, packed_b,
                       c + (row + i) * stride + column + j, stride, p == 0);
      }
    }
  }
}

void store_row(const float* from, char* to, DataType type, long n) {
  if (is_float16(type)) return narrow(type, from, to, n);
  isa::run(
      [](float* x, long count) {
        for (long i = 0; i < count; ++i) x[i] = canonical(x[i]);
      },
      reinterpret_cast<float*>(to), n);
}

}  // namespace

void gemm(long m, long n, long k, const Matrix& a, const Matrix& b, char* c, DataType result) {
  thread_local Scratch wide;
  float* sums = result == DataType::Float32 ? reinterpret_cast<float*>(c) : wide.get(m * n);
  // Parts below this many multiplications are not worth a thread.
  constexpr long kPartWork = 1 << 19;
  const long total = m * n * k;
  const long parts = std::clamp(total / kPartWork, 1l, 16l);
  const Tile& tile = best_tile();
  // Cut along the longer side, in multiples of the tile.
  const bool cut_rows = m >= n;
  const long side = cut_rows ? m : n, unit = cut_rows ? tile.rows : tile.columns;
  const long units = (side + unit - 1) / unit, grain = std::max(1l, (units + parts - 1) / parts);
  parallel(units, grain, [&](long begin, long end) {
    const long from = begin * unit, to = std::min(end * unit, side);
    if (cut_rows) {
      multiply_part(from, to - from, 0, n, k, a, b, sums, n);
    } else {
      multiply_part(0, m, from, to - from, k, a, b, sums, n);
    }
  });
  const long rows_per_part = std::max(1l, kGrain / std::max(n, 1l));
  parallel(m, rows_per_part, [&](long begin, long end) {
    store_row(sums + begin * n, c + begin * n * long(size_of(result)), result, (end - begin) * n);
  });
}

}  // namespace host

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
#include "plugin/host/parallel.h"

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

// Adds (or stores, when `first`) the product of a strip of A, tile rows x k, and one of B, k x tile
// columns, to C with rows `stride` apart. Strips are packed, or where they lie: then rows of A are
// `a_stride` apart, rows of B `b_stride`.
using MicroKernel = void (*)(long k, const float* a, const float* b, float* c, long stride,
                             bool first, long a_stride, long b_stride);
struct Tile {
  long rows, columns;
  MicroKernel kernel;
};

// One body for all instruction sets: V is a vector of floats, `madd` the fused operation. kPacked
// tells whether the strips are.
#define MICRO_KERNEL(name, attributes, V, kTileRows, kVectors, kPacked, broadcast, madd)          \
  attributes void name(long k, const float* a, const float* b, float* c, long stride, bool first, \
                       long a_stride, long b_stride) {                                            \
    constexpr long kLanes = sizeof(V) / sizeof(float);                                            \
    const long a_row = kPacked ? 1 : a_stride, a_step = kPacked ? kTileRows : 1;                  \
    const long b_step = kPacked ? kVectors * kLanes : b_stride;                                   \
    V sum[kTileRows][kVectors] = {};                                                              \
    for (long p = 0; p < k; ++p, a += a_step, b += b_step) {                                      \
      V column[kVectors];                                                                         \
      _Pragma("GCC unroll 4") for (long v = 0; v < kVectors; ++v) {                               \
        __builtin_memcpy(&column[v], b + v * kLanes, sizeof(V));                                  \
      }                                                                                           \
      _Pragma("GCC unroll 16") for (long i = 0; i < kTileRows; ++i) {                             \
        const V row = broadcast(a[i * a_row]);                                                    \
        _Pragma("GCC unroll 4") for (long v = 0; v < kVectors; ++v) {                             \
          sum[i][v] = madd(row, column[v], sum[i][v]);                                            \
        }                                                                                         \
      }                                                                                           \
    }                                                                                             \
    _Pragma("GCC unroll 16") for (long i = 0; i < kTileRows; ++i) {                               \
      _Pragma("GCC unroll 4") for (long v = 0; v < kVectors; ++v) {                               \
        float* to = c + i * stride + v * kLanes;                                                  \
        V old = {};                                                                               \
        if (!first) __builtin_memcpy(&old, to, sizeof(V));                                        \
        old += sum[i][v];                                                                         \
        __builtin_memcpy(to, &old, sizeof(V));                                                    \
      }                                                                                           \
    }                                                                                             \
  }

using Vector4 = float __attribute__((vector_size(16)));
inline Vector4 broadcast4(float x) { return Vector4{x, x, x, x}; }
inline Vector4 madd4(Vector4 a, Vector4 b, Vector4 c) { return a * b + c; }
#if defined(__aarch64__)
MICRO_KERNEL(kernel_baseline, , Vector4, 8, 2, true, broadcast4, madd4)
constexpr Tile kBaseline{8, 8, &kernel_baseline};
#else
MICRO_KERNEL(kernel_baseline, , Vector4, 4, 2, true, broadcast4, madd4)
constexpr Tile kBaseline{4, 8, &kernel_baseline};
#endif
MICRO_KERNEL(direct_baseline, , Vector4, 4, 2, false, broadcast4, madd4)
constexpr Tile kDirectBaseline{4, 8, &direct_baseline};
#if defined(__x86_64__)
MICRO_KERNEL(kernel_avx2, HOST_AVX2, __m256, 6, 2, true, _mm256_set1_ps, _mm256_fmadd_ps)
MICRO_KERNEL(kernel_avx512, HOST_AVX512, __m512, 14, 2, true, _mm512_set1_ps, _mm512_fmadd_ps)
MICRO_KERNEL(direct_avx2, HOST_AVX2, __m256, 4, 2, false, _mm256_set1_ps, _mm256_fmadd_ps)
MICRO_KERNEL(direct_avx512, HOST_AVX512, __m512, 8, 2, false, _mm512_set1_ps, _mm512_fmadd_ps)
constexpr Tile kAvx2{6, 16, &kernel_avx2};
constexpr Tile kAvx512{14, 32, &kernel_avx512};
constexpr Tile kDirectAvx2{4, 16, &direct_avx2};
constexpr Tile kDirectAvx512{8, 32, &direct_avx512};
#endif

const Tile& best_tile() {
#if defined(__x86_64__)
  if (isa::level() == isa::Level::Avx512) return kAvx512;
  if (isa::level() == isa::Level::Avx2) return kAvx2;
#endif
  return kBaseline;
}

// For products of few rows: packing B would cost as much as multiplying by it.
const Tile& direct_tile() {
#if defined(__x86_64__)
  if (isa::level() == isa::Level::Avx512) return kDirectAvx512;
  if (isa::level() == isa::Level::Avx2) return kDirectAvx2;
#endif
  return kDirectBaseline;
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
        tile.kernel(k, a + i * k, b + j * k, to, stride, first, 0, 0);
        continue;
      }
      tile.kernel(k, a + i * k, b + j * k, edge, tile.columns, true, 0, 0);
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
                   float* c, long stride, bool accumulate) {
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
                       c + (row + i) * stride + column + j, stride, p == 0 && !accumulate);
      }
    }
  }
}

// Products of few rows take their operands where they lie, unless a strip of B would be read from
// beyond the second-level cache for every tile of rows.
bool suits_direct(long m, long k, const Matrix& a, const Matrix& b) {
  constexpr long kRows = 64, kDepth = 2048;
  const bool few = m <= direct_tile().rows || (m <= kRows && k <= kDepth);
  return few && a.type == DataType::Float32 && b.type == DataType::Float32 &&
         a.column_stride == 1 && b.column_stride == 1;
}

// Columns [column, column + n) of C, without packing but for what does not fill a tile.
void multiply_directly(long m, long column, long n, long k, const Matrix& a, const Matrix& b,
                       float* c, long stride, bool first) {
  thread_local Scratch scratch_a, scratch_b;
  const Tile& tile = direct_tile();
  const float* left = reinterpret_cast<const float*>(a.data);
  const long full_rows = m / tile.rows * tile.rows, rest = m - full_rows;
  float* last_rows = scratch_a.get(tile.rows * k);
  for (long r = 0; r < rest; ++r) {
    std::copy_n(left + (full_rows + r) * a.row_stride, k, last_rows + r * k);
  }
  if (rest > 0) std::fill(last_rows + rest * k, last_rows + tile.rows * k, 0.0f);
  float edge[8 * 32];
  for (long j = column; j < column + n; j += tile.columns) {
    const long columns = std::min(tile.columns, column + n - j);
    const float* right = reinterpret_cast<const float*>(b.data) + j;
    long right_stride = b.row_stride;
    if (columns < tile.columns) {
      float* packed = scratch_b.get(tile.columns * k);
      pack(b, j, 0, false, columns, k, tile.columns, packed);
      right = packed, right_stride = tile.columns;
    }
    for (long i = 0; i < m; i += tile.rows) {
      const bool inside = i < full_rows;
      const float* from = inside ? left + i * a.row_stride : last_rows;
      const long from_stride = inside ? a.row_stride : k;
      float* to = c + i * stride + j;
      if (inside && columns == tile.columns) {
        tile.kernel(k, from, right, to, stride, first, from_stride, right_stride);
        continue;
      }
      tile.kernel(k, from, right, edge, tile.columns, true, from_stride, right_stride);
      const long rows = std::min(tile.rows, m - i);
      for (long r = 0; r < rows; ++r) {
        for (long s = 0; s < columns; ++s) {
          to[r * stride + s] = edge[r * tile.columns + s] + (first ? 0 : to[r * stride + s]);
        }
      }
    }
  }
}

// Finishes rows [row, row + rows): rounds `from` to 16-bit floats; float32 sums are in place, only
// NaNs become what arithmetic on the GPU gives.
void store_rows(const float* from, long row, long rows, long n, const Target& to) {
  const bool packed = to.row_stride == n;
  const long runs = packed ? 1 : rows, length = packed ? rows * n : n;
  for (long r = row; r < row + runs; ++r) {
    char* out = to.data + r * to.row_stride * long(size_of(to.type));
    if (is_float16(to.type)) {
      narrow(to.type, from + r * n, out, length);
      continue;
    }
    isa::run(
        [](float* x, long count) {
          for (long i = 0; i < count; ++i) x[i] = canonical(x[i]);
        },
        reinterpret_cast<float*>(out), length);
  }
}

}  // namespace

void gemm(long m, long n, long k, const Matrix& a, const Matrix& b, const Target& to) {
  thread_local Scratch wide;
  const bool in_place = to.type == DataType::Float32;
  float* sums = in_place ? reinterpret_cast<float*>(to.data) : wide.get(m * n);
  const long stride = in_place ? to.row_stride : n;
  const bool direct = suits_direct(m, k, a, b);
  // Parts below this many multiplications are not worth a thread. Each packs the operand that is
  // not cut for itself, so there are no more than balance the threads.
  constexpr long kPartWork = 1 << 19, kPartsPerThread = 2;
  const long most = kPartsPerThread * long(parallelism());
  const long parts = std::clamp(m * n * k / kPartWork, 1l, most);
  const Tile& tile = direct ? direct_tile() : best_tile();
  // Cut along the longer side, in multiples of the tile.
  const bool cut_rows = m >= n && !direct;
  const long side = cut_rows ? m : n, unit = cut_rows ? tile.rows : tile.columns;
  const long units = (side + unit - 1) / unit, grain = std::max(1l, (units + parts - 1) / parts);
  parallel(units, grain, [&](long begin, long end) {
    const long from = begin * unit, count = std::min(end * unit, side) - from;
    if (direct) {
      multiply_directly(m, from, count, k, a, b, sums, stride, !to.accumulate);
    } else if (cut_rows) {
      multiply_part(from, count, 0, n, k, a, b, sums, stride, to.accumulate);
    } else {
      multiply_part(0, m, from, count, k, a, b, sums, stride, to.accumulate);
    }
  });
  const long rows_per_part = std::max(1l, kGrain / std::max(n, 1l));
  parallel(m, rows_per_part,
           [&](long begin, long end) { store_rows(sums, begin, end - begin, n, to); });
}

}  // namespace host

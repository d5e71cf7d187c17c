// Packed GEMM in the manner of Goto: panels of A and B are copied into the order in which the
// micro-kernel reads them, widened to float32 on the way; the kernel keeps a tile of C in
// registers.
#include "plugin/host/mps_graph/gemm.h"

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "plugin/host/mps_graph/amx.h"
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
constexpr long kAlignment = 64;

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
  void operator()(char* p) const { std::free(p); }
};
// Aligned scratch memory of this thread; grows, and keeps its size.
class Scratch {
 public:
  char* bytes(long count) {
    if (count > size_) {
      size_ = (count + kAlignment - 1) / kAlignment * kAlignment;
      memory_.reset(static_cast<char*>(std::aligned_alloc(kAlignment, size_t(size_))));
    }
    return memory_.get();
  }
  float* get(long count) { return reinterpret_cast<float*>(bytes(count * long(sizeof(float)))); }

 private:
  std::unique_ptr<char, Free> memory_;
  long size_ = 0;
};

// A strip of lines that lie next to each other. Its width is a constant, or the copies would be
// calls of memmove.
template <long kWidth, class T>
inline void pack_strip(const T* __restrict from, long step, long depth, float* __restrict to) {
  for (long p = 0; p < depth; ++p) {
    for (long l = 0; l < kWidth; ++l) to[p * kWidth + l] = to_float(from[p * step + l]);
  }
}
template <class T>
inline bool pack_strip(const T* from, long step, long depth, long width, float* to) {
  switch (width) {
    case 4:
      return pack_strip<4>(from, step, depth, to), true;
    case 6:
      return pack_strip<6>(from, step, depth, to), true;
    case 8:
      return pack_strip<8>(from, step, depth, to), true;
    case 14:
      return pack_strip<14>(from, step, depth, to), true;
    case 16:
      return pack_strip<16>(from, step, depth, to), true;
    case 32:
      return pack_strip<32>(from, step, depth, to), true;
    default:
      return false;
  }
}

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
          if (line_step == 1 && used == strip &&
              pack_strip(source, depth_step, depth_count, strip, y)) {
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

long padded(long x, long unit) { return (x + unit - 1) / unit * unit; }

// How a PackedProduct is computed: on the vector units, or on AMX.
struct VectorUnits {
  const Tile& tile = best_tile();
  long rows() const { return tile.rows; }
  long columns() const { return tile.columns; }
  long block_rows() const { return kRows; }
  long depth() const { return kDepth; }
  long line_bytes(long depth) const { return depth * long(sizeof(float)); }
  void pack(const Matrix& matrix, long line, long depth_at, bool is_a, long lines, long depth,
            char* to) {
    host::pack(matrix, line, depth_at, is_a, lines, depth, is_a ? tile.rows : tile.columns,
               reinterpret_cast<float*>(to));
  }
  void multiply(long m, long n, long k, const char* a, const char* b, float* c, long stride,
                bool first) const {
    multiply_block(tile, m, n, k, reinterpret_cast<const float*>(a),
                   reinterpret_cast<const float*>(b), c, stride, first);
  }
};
struct MatrixUnit {
  DataType type;
  amx::Magnitudes magnitudes = {};
  long rows() const { return amx::kTile; }
  long columns() const { return amx::kTile; }
  long block_rows() const { return 6 * amx::kTile; }
  // A strip of B takes about as much of the cache for every type.
  long depth() const { return type == DataType::Float32 ? 384 : 1024; }
  long line_bytes(long depth) const { return amx::line_bytes(type, depth); }
  void pack(const Matrix& matrix, long line, long depth_at, bool is_a, long lines, long depth,
            char* to) {
    amx::pack(matrix, line, depth_at, is_a, lines, depth, to, is_a ? magnitudes.a : magnitudes.b);
  }
  void multiply(long m, long n, long k, const char* a, const char* b, float* c, long stride,
                bool first) const {
    amx::multiply(type, m, n, k, a, b, c, stride, first);
  }
};

// A product that is cut along its rows or its columns. What all parts share is packed once, by all
// threads; each part packs its own.
template <class Unit>
class PackedProduct {
 public:
  PackedProduct(Unit& unit, long m, long n, long k, const Matrix& a, const Matrix& b, float* c,
                long stride, bool accumulate)
      : unit_(unit),
        m_(m),
        n_(n),
        k_(k),
        a_(a),
        b_(b),
        c_(c),
        stride_(stride),
        accumulate_(accumulate) {}

  void run(long parts) {
    // Cut along the longer side, in multiples of the tile.
    const bool cut_rows = m_ >= n_;
    const long block = cut_rows ? kColumns : unit_.block_rows() * kSharedRows;
    const long side = cut_rows ? n_ : m_;
    for (long s = 0; s < side; s += block) {
      for (long p = 0; p < k_; p += unit_.depth()) {
        const long depth = std::min(unit_.depth(), k_ - p), width = std::min(block, side - s);
        const char* shared = pack_shared(cut_rows, s, width, p, depth);
        if (cut_rows) {
          rows_of(parts, s, width, p, depth, shared);
        } else {
          columns_of(parts, s, width, p, depth, shared);
        }
      }
    }
  }

 private:
  static constexpr long kSharedRows = 8;  // blocks of rows

  const char* pack_shared(bool is_b, long from, long width, long p, long depth) {
    thread_local Scratch scratch;
    const long unit = is_b ? unit_.columns() : unit_.rows(), line = unit_.line_bytes(depth);
    char* to = scratch.bytes(padded(width, unit) * line);
    const long grain = std::max(1l, kGrain / (unit * depth));
    parallel((width + unit - 1) / unit, grain, [&](long begin, long end) {
      const long at = begin * unit, count = std::min(end * unit, width) - at;
      unit_.pack(is_b ? b_ : a_, from + at, p, !is_b, count, depth, to + at * line);
    });
    return to;
  }

  // All rows, columns [j, j + width).
  void rows_of(long parts, long j, long width, long p, long depth, const char* packed_b) {
    const long most = unit_.block_rows(), line = unit_.line_bytes(depth);
    cut(m_, unit_.rows(), parts, [&](long begin, long end) {
      thread_local Scratch scratch;
      char* packed_a = scratch.bytes(std::min(padded(end - begin, unit_.rows()), most) * line);
      for (long i = begin; i < end; i += most) {
        const long rows = std::min(most, end - i);
        unit_.pack(a_, i, p, true, rows, depth, packed_a);
        multiply(rows, width, depth, packed_a, packed_b, i, j, p);
      }
    });
  }

  // All columns, rows [i, i + height).
  void columns_of(long parts, long i, long height, long p, long depth, const char* packed_a) {
    const long most = unit_.block_rows(), line = unit_.line_bytes(depth);
    cut(n_, unit_.columns(), parts, [&](long begin, long end) {
      thread_local Scratch scratch;
      char* packed_b =
          scratch.bytes(std::min(padded(end - begin, unit_.columns()), kColumns) * line);
      for (long j = begin; j < end; j += kColumns) {
        const long columns = std::min(kColumns, end - j);
        unit_.pack(b_, j, p, false, columns, depth, packed_b);
        for (long r = 0; r < height; r += most) {
          multiply(std::min(most, height - r), columns, depth, packed_a + r * line, packed_b, i + r,
                   j, p);
        }
      }
    });
  }

  template <class F>
  void cut(long side, long unit, long parts, const F& body) {
    const long units = (side + unit - 1) / unit;
    parallel(units, std::max(1l, (units + parts - 1) / parts),
             [&](long begin, long end) { body(begin * unit, std::min(end * unit, side)); });
  }

  void multiply(long rows, long columns, long depth, const char* packed_a, const char* packed_b,
                long i, long j, long p) {
    unit_.multiply(rows, columns, depth, packed_a, packed_b, c_ + i * stride_ + j, stride_,
                   p == 0 && !accumulate_);
  }

  Unit& unit_;
  const long m_, n_, k_;
  const Matrix &a_, &b_;
  float* const c_;
  const long stride_;
  const bool accumulate_;
};

// On the matrix unit, if there is one and the product is for it; false: nothing of `c` counts.
bool multiply_on_matrix_unit(long m, long n, long k, const Matrix& a, const Matrix& b, float* c,
                             long stride, bool accumulate, long parts) {
  // Below, packing costs more than the faster kernel gains.
  constexpr long kLeastSide = 16, kLeastDepth = 16;
  if (a.type != b.type || std::min(m, n) < kLeastSide || k < kLeastDepth || !amx::available()) {
    return false;
  }
  MatrixUnit unit{a.type};
  thread_local Scratch scratch;  // whether it counts is known when it is there
  float* sums = accumulate ? scratch.get(m * n) : c;
  PackedProduct(unit, m, n, k, a, b, sums, accumulate ? n : stride, false).run(parts);
  if (!unit.magnitudes.fit(a.type, k)) return false;
  if (!accumulate) return true;
  parallel(m, std::max(1l, kGrain / n), [&](long begin, long end) {
    for (long row = begin; row < end; ++row) {
      isa::run(
          [](const float* __restrict more, float* __restrict to, long count) {
            for (long i = 0; i < count; ++i) to[i] += more[i];
          },
          static_cast<const float*>(sums + row * n), c + row * stride, n);
    }
  });
  return true;
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
  if (direct) {
    const long unit = direct_tile().columns, units = (n + unit - 1) / unit;
    parallel(units, std::max(1l, (units + parts - 1) / parts), [&](long begin, long end) {
      const long from = begin * unit, count = std::min(end * unit, n) - from;
      multiply_directly(m, from, count, k, a, b, sums, stride, !to.accumulate);
    });
  } else if (multiply_on_matrix_unit(m, n, k, a, b, sums, stride, to.accumulate, parts)) {
    if (in_place) return;  // there are no NaNs
  } else {
    VectorUnits units;
    PackedProduct(units, m, n, k, a, b, sums, stride, to.accumulate).run(parts);
  }
  if (in_place && to.raw) return;
  const long rows_per_part = std::max(1l, kGrain / std::max(n, 1l));
  parallel(m, rows_per_part,
           [&](long begin, long end) { store_rows(sums, begin, end - begin, n, to); });
}

}  // namespace host

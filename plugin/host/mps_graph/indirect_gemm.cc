#include "plugin/host/mps_graph/indirect_gemm.h"

#include <algorithm>

#include "plugin/host/mps_graph/graph.h"
#include "plugin/host/mps_graph/isa.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace host {
namespace {

constexpr long kDepth = 256;  // rows of a strip that stay in L1 while all rows of A pass

// Tile rows of A, each of its own address, by one strip of B.
using RowKernel = void (*)(const float* const* a, const Segment* segments, long count,
                           const float* b, float* c, long stride, bool first);
// Neighbouring rows of A: a[positions[p]], a[positions[p] + 1], ... Adds to C.
using ColumnKernel = void (*)(const float* a, const long* positions, long count, const float* b,
                              float* c, long stride);
struct Tile {
  long rows, lanes;
  RowKernel by_row[2];  // for strips of one vector, of two
  ColumnKernel by_column[2];
};

#define STORE(kTileRows, kVectors, V, keep)                       \
  _Pragma("GCC unroll 16") for (long i = 0; i < kTileRows; ++i) { \
    _Pragma("GCC unroll 2") for (long v = 0; v < kVectors; ++v) { \
      float* to = c + i * stride + v * kLanes;                    \
      V old = {};                                                 \
      if (keep) __builtin_memcpy(&old, to, sizeof(V));            \
      old += sum[i][v];                                           \
      __builtin_memcpy(to, &old, sizeof(V));                      \
    }                                                             \
  }
#define STEP(kTileRows, kVectors, V, broadcast, madd, element)    \
  V column[kVectors];                                             \
  _Pragma("GCC unroll 2") for (long v = 0; v < kVectors; ++v) {   \
    __builtin_memcpy(&column[v], b + v * kLanes, sizeof(V));      \
  }                                                               \
  _Pragma("GCC unroll 16") for (long i = 0; i < kTileRows; ++i) { \
    const V row = broadcast(element);                             \
    _Pragma("GCC unroll 2") for (long v = 0; v < kVectors; ++v) { \
      sum[i][v] = madd(row, column[v], sum[i][v]);                \
    }                                                             \
  }

// One body for all instruction sets, as in gemm.cc.
#define KERNELS(name, attributes, V, kTileRows, kVectors, broadcast, madd)                \
  attributes void name##_rows(const float* const* a, const Segment* segments, long count, \
                              const float* b, float* c, long stride, bool first) {        \
    constexpr long kLanes = sizeof(V) / sizeof(float);                                    \
    V sum[kTileRows][kVectors] = {};                                                      \
    for (long s = 0; s < count; ++s) {                                                    \
      const float* at[kTileRows];                                                         \
      for (long i = 0; i < kTileRows; ++i) at[i] = a[i] + segments[s].offset;             \
      for (long k = 0; k < segments[s].length; ++k, b += kVectors * kLanes) {             \
        STEP(kTileRows, kVectors, V, broadcast, madd, at[i][k])                           \
      }                                                                                   \
    }                                                                                     \
    STORE(kTileRows, kVectors, V, !first)                                                 \
  }                                                                                       \
  attributes void name##_columns(const float* a, const long* positions, long count,       \
                                 const float* b, float* c, long stride) {                 \
    constexpr long kLanes = sizeof(V) / sizeof(float);                                    \
    V sum[kTileRows][kVectors] = {};                                                      \
    for (long p = 0; p < count; ++p, b += kVectors * kLanes) {                            \
      const float* at = a + positions[p];                                                 \
      STEP(kTileRows, kVectors, V, broadcast, madd, at[i])                                \
    }                                                                                     \
    STORE(kTileRows, kVectors, V, true)                                                   \
  }
#define TILE(name, rows, lanes)                                                       \
  constexpr Tile name {                                                               \
    rows, lanes, {&name##1_rows, &name##2_rows}, {&name##1_columns, &name##2_columns} \
  }

using Vector4 = float __attribute__((vector_size(16)));
inline Vector4 broadcast4(float x) { return Vector4{x, x, x, x}; }
inline Vector4 madd4(Vector4 a, Vector4 b, Vector4 c) { return a * b + c; }
#if defined(__aarch64__)
KERNELS(baseline1, , Vector4, 8, 1, broadcast4, madd4)
KERNELS(baseline2, , Vector4, 8, 2, broadcast4, madd4)
TILE(baseline, 8, 4);
#else
KERNELS(baseline1, , Vector4, 4, 1, broadcast4, madd4)
KERNELS(baseline2, , Vector4, 4, 2, broadcast4, madd4)
TILE(baseline, 4, 4);
#endif
#if defined(__x86_64__)
KERNELS(avx2_1, HOST_AVX2, __m256, 6, 1, _mm256_set1_ps, _mm256_fmadd_ps)
KERNELS(avx2_2, HOST_AVX2, __m256, 6, 2, _mm256_set1_ps, _mm256_fmadd_ps)
TILE(avx2_, 6, 8);
KERNELS(avx512_1, HOST_AVX512, __m512, 14, 1, _mm512_set1_ps, _mm512_fmadd_ps)
KERNELS(avx512_2, HOST_AVX512, __m512, 14, 2, _mm512_set1_ps, _mm512_fmadd_ps)
TILE(avx512_, 14, 16);
#endif

const Tile& tile() {
#if defined(__x86_64__)
  if (isa::level() == isa::Level::Avx512) return avx512_;
  if (isa::level() == isa::Level::Avx2) return avx2_;
#endif
  return baseline;
}

// The segments cut into groups of at most kDepth rows of B.
struct Piece {
  long row, first, count;  // of B; of the cut segments
};
struct Pieces {
  std::vector<Segment> segments;
  std::vector<Piece> list;
};

Pieces cut(const std::vector<Segment>& segments) {
  Pieces pieces;
  long row = 0, used = kDepth;
  for (Segment rest : segments) {
    while (rest.length > 0) {
      if (used == kDepth) {
        pieces.list.push_back({row, long(pieces.segments.size()), 0});
        used = 0;
      }
      const long n = std::min(rest.length, kDepth - used);
      pieces.segments.push_back({rest.offset, n});
      ++pieces.list.back().count;
      rest = {rest.offset + n, rest.length - n};
      used += n;
      row += n;
    }
  }
  return pieces;
}

}  // namespace

long indirect_tile_rows() { return tile().rows; }

long Strips::count(long columns) { return (columns + 2 * tile().lanes - 1) / (2 * tile().lanes); }
long Strips::begin(long strip) { return strip * 2 * tile().lanes; }
long Strips::width(long columns, long strip) {
  return columns - begin(strip) <= tile().lanes ? tile().lanes : 2 * tile().lanes;
}
long Strips::padded(long columns) {
  const long last = count(columns) - 1;
  return begin(last) + width(columns, last);
}

void Strips::fill(long s, long row, long n, const void* from, DataType type, long row_stride,
                  long column_stride) const {
  const long used = std::min(width(columns_, s), columns_ - begin(s));
  dispatch(type, [&]<class T>(TypeOf<T>) {
    if constexpr (std::is_same_v<T, float> || std::is_same_v<T, Half> ||
                  std::is_same_v<T, BFloat>) {
      isa::run(
          [](const T* __restrict x, long i_step, long j_step, long i_count, long j_count,
             long width, float* __restrict y) {
            for (long i = 0; i < i_count; ++i, y += width) {
              const T* line = x + i * i_step;
              if (j_step == 1) {
                for (long j = 0; j < j_count; ++j) y[j] = to_float(line[j]);
              } else {
                for (long j = 0; j < j_count; ++j) y[j] = to_float(line[j * j_step]);
              }
              for (long j = j_count; j < width; ++j) y[j] = 0;
            }
          },
          static_cast<const T*>(from) + begin(s) * column_stride, row_stride, column_stride, n,
          used, width(columns_, s), strip(s) + row * width(columns_, s));
    }
  });
}

void multiply_rows(const float* const* a, long rows, const std::vector<Segment>& segments,
                   const Strips& b, long first, long last, float* c) {
  const long stride = Strips::padded(b.columns()), step = tile().rows;
  const Pieces pieces = cut(segments);
  for (const Piece& piece : pieces.list) {
    for (long s = first; s < last; ++s) {
      const long width = Strips::width(b.columns(), s);
      const RowKernel kernel = tile().by_row[width / tile().lanes - 1];
      for (long i = 0; i < rows; i += step) {
        kernel(a + i, pieces.segments.data() + piece.first, piece.count,
               b.strip(s) + piece.row * width, c + i * stride + Strips::begin(s), stride,
               piece.row == 0);
      }
    }
  }
}

void accumulate_columns(const float* a, const long* positions, long rows, const Strips& b,
                        float* c) {
  const long stride = Strips::padded(b.columns()), step = tile().rows;
  float edge[14 * 32];
  for (long p = 0; p < b.rows(); p += kDepth) {
    const long depth = std::min(kDepth, b.rows() - p);
    for (long s = 0; s < Strips::count(b.columns()); ++s) {
      const long width = Strips::width(b.columns(), s);
      const ColumnKernel kernel = tile().by_column[width / tile().lanes - 1];
      const float* strip = b.strip(s) + p * width;
      float* to = c + Strips::begin(s);
      long i = 0;
      for (; i + step <= rows; i += step) {
        kernel(a + i, positions + p, depth, strip, to + i * stride, stride);
      }
      if (i == rows) continue;
      const long start = std::max(0l, rows - step);  // rows before i are computed again
      std::fill(std::begin(edge), std::end(edge), 0.0f);
      kernel(a + start, positions + p, depth, strip, edge, width);
      for (; i < rows; ++i) {
        for (long j = 0; j < width; ++j) to[i * stride + j] += edge[(i - start) * width + j];
      }
    }
  }
}

}  // namespace host

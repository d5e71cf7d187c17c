#include "plugin/host/mps_graph/amx.h"

#include <algorithm>
#include <array>

#include "plugin/host/mps_graph/isa.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace host::amx {

namespace {

constexpr long kLines = 16, kDepth = 32;                         // of a hardware tile
constexpr long kTileBytes = kLines * kDepth * sizeof(uint16_t);  // 1024

long planes(DataType type) {
  return type == DataType::Float32 ? 3 : type == DataType::Float16 ? 2 : 1;
}
long depth_blocks(long depth) { return (depth + kDepth - 1) / kDepth; }

}  // namespace

long line_bytes(DataType type, long depth) {
  return depth_blocks(depth) * kTileBytes / kLines * planes(type);
}

bool Magnitudes::fit(DataType type, long k) const {
  if (type == DataType::BFloat16) return true;  // a single plane: all values are themselves
  const auto exponent = [](uint32_t bits) { return int(bits >> 23) - 127; };
  const int left = exponent(a), right = exponent(b);
  if (type == DataType::Float16) return left < 16 && right < 16;
  constexpr int kMost = 125, kLeast = -64;
  if (left > kMost || right > kMost) return false;
  // Each factor is below 2^(exponent + 1).
  if (left + right + 2 + int(std::bit_width(uint64_t(k))) > kMost) return false;
  return (a == 0 || left > kLeast) && (b == 0 || right > kLeast);
}

#if defined(__x86_64__)

#if defined(__clang__)
#define HOST_AMX \
  __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,amx-tile,amx-bf16")))
#else
#define HOST_AMX                                                              \
  __attribute__((                                                             \
      target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,amx-tile,amx-bf16," \
             "prefer-vector-width=512")))
#endif

namespace {

bool ask() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  constexpr unsigned kBf16 = 1u << 22, kTiles = 1u << 24;      // of CPUID 7, EDX
  unsigned eax = 7, ebx = 0, ecx = 0, edx = 0;
  asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  return isa::level() == isa::Level::Avx512 && (edx & kBf16) && (edx & kTiles) &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

using Floats = float __attribute__((vector_size(64)));
using Words = uint32_t __attribute__((vector_size(64)));
using Shorts = uint16_t __attribute__((vector_size(32)));

HOST_AMX inline Floats load(const float* from) {
  Floats x;
  __builtin_memcpy(&x, from, sizeof x);
  return x;
}
HOST_AMX inline Floats load(const Half* from) {
  const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return _mm512_maskz_cvtph_ps(0xffff, x);
}
HOST_AMX inline Floats load(const BFloat* from) {
  Shorts x;
  __builtin_memcpy(&x, from, sizeof x);
  return (Floats)(__builtin_convertvector(x, Words) << 16);
}

// The bits of x as a sum of kPlanes numbers, each with the upper half of its bits only.
template <int kPlanes>
HOST_AMX inline void split(Floats x, Words* parts, Words& most) {
  const Words magnitude = (Words)x & 0x7fffffffu;
  most = magnitude > most ? magnitude : most;
  for (int p = 0; p + 1 < kPlanes; ++p) {
    parts[p] = ((Words)x + 0x8000u) & 0xffff0000u;
    x -= (Floats)parts[p];
  }
  parts[kPlanes - 1] = (Words)x;
}

// Swaps rows and columns: x[i][j] becomes x[j][i].
HOST_AMX inline void transpose(Floats* x) {
  for (int step = 1; step < kLines; step *= 2) {
    Words low, high;  // lanes of two rows, the second one's from 16 on
    for (int j = 0; j < kLines; ++j) {
      low[j] = uint32_t(j & step ? kLines + j - step : j);
      high[j] = uint32_t(j & step ? kLines + j : j + step);
    }
    for (int i = 0; i < kLines; ++i) {
      if (i & step) continue;
      const __m512 a = x[i], b = x[i + step];
      x[i] = _mm512_permutex2var_ps(a, (__m512i)low, b);
      x[i + step] = _mm512_permutex2var_ps(a, (__m512i)high, b);
    }
  }
}

// A row of a tile of A is 32 elements of a line; a row of a tile of B is a pair of elements of each
// of 16 lines. `x`: for A the first halves of 16 lines, then the second halves; for B 32 times an
// element of each line.
template <int kPlanes>
HOST_AMX inline void store_tile(bool is_a, const Floats* x, char* to, Words& most) {
  constexpr auto kUpperHalves = [] {  // of the lanes of two vectors
    std::array<uint16_t, 2 * kLines> which{};
    for (long j = 0; j < 2 * kLines; ++j) which[j] = uint16_t(2 * j + 1);
    return which;
  }();
  const __m512i upper_halves = _mm512_loadu_si512(kUpperHalves.data());
  for (long row = 0; row < kLines; ++row) {
    Words first[kPlanes], second[kPlanes];
    split<kPlanes>(is_a ? x[row] : x[2 * row], first, most);
    split<kPlanes>(is_a ? x[row + kLines] : x[2 * row + 1], second, most);
    for (int p = 0; p < kPlanes; ++p) {
      char* at = to + p * kTileBytes + row * 64;
      if (is_a) {
        _mm512_storeu_si512(
            at, _mm512_permutex2var_epi16((__m512i)first[p], upper_halves, (__m512i)second[p]));
      } else {
        const Words pairs = first[p] >> 16 | (second[p] & 0xffff0000u);
        __builtin_memcpy(at, &pairs, sizeof pairs);
      }
    }
  }
}

// One tile of at most 16 lines and 32 elements of each.
template <class T, int kPlanes>
HOST_AMX inline void pack_tile(const T* from, long line_step, long depth_step, long lines,
                               long depth, bool is_a, char* to, Words& most) {
  Floats x[2 * kLines];
  const bool whole = lines == kLines && depth == kDepth;
  if (whole) {  // the tile after this one
    for (long i = 0; i < 2 * kLines; ++i) {
      const T* soon = depth_step == 1 ? from + i % kLines * line_step + kDepth + i / kLines * kLines
                                      : from + i * depth_step + kLines;
      _mm_prefetch(reinterpret_cast<const char*>(soon), _MM_HINT_T0);
    }
  }
  bool by_line = false;  // x holds stretches of lines
  if (whole && depth_step == 1) {
    by_line = true;
    for (long i = 0; i < 2 * kLines; ++i) {
      x[i] = load(from + i % kLines * line_step + i / kLines * kLines);
    }
  } else if (whole && line_step == 1) {
    for (long i = 0; i < 2 * kLines; ++i) x[i] = load(from + i * depth_step);
  } else {
    alignas(64) float edge[kDepth][kLines] = {};
    for (long l = 0; l < lines; ++l) {
      for (long p = 0; p < depth; ++p) edge[p][l] = to_float(from[l * line_step + p * depth_step]);
    }
    for (long i = 0; i < 2 * kLines; ++i) x[i] = load(edge[i]);
  }
  if (by_line != is_a) {
    transpose(x);
    transpose(x + kLines);
  }
  store_tile<kPlanes>(is_a, x, to, most);
}

template <class T, int kPlanes>
HOST_AMX void pack_lines(const T* from, long line_step, long depth_step, long lines, long depth,
                         bool is_a, char* to, std::atomic<uint32_t>& most) {
  Words largest = {};
  const long padded = (lines + kTile - 1) / kTile * kTile, blocks = depth_blocks(depth);
  const auto pack = [&](long l, long p) __attribute__((always_inline)) {
    const long used = std::clamp(lines - l * kLines, 0l, kLines), at = p * kDepth;
    pack_tile<T, kPlanes>(from + l * kLines * line_step + at * depth_step, line_step, depth_step,
                          used, std::min(kDepth, depth - at), is_a,
                          to + (l * blocks + p) * kPlanes * kTileBytes, largest);
  };
  // In the order of memory.
  const long tiles = padded / kLines;
  if (line_step == 1) {
    for (long p = 0; p < blocks; ++p) {
      for (long l = 0; l < tiles; ++l) pack(l, p);
    }
  } else {
    for (long l = 0; l < tiles; ++l) {
      for (long p = 0; p < blocks; ++p) pack(l, p);
    }
  }
  uint32_t all = 0;
  for (long j = 0; j < kLines; ++j) all = std::max<uint32_t>(all, largest[j]);
  uint32_t before = most.load(std::memory_order_relaxed);
  while (before < all && !most.compare_exchange_weak(before, all)) {
  }
}

struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
constexpr TileConfiguration kConfiguration;

#define LOAD_A(plane)                           \
  _tile_loadd(4, a + (plane) * kTileBytes, 64); \
  _tile_loadd(5, a_next + (plane) * kTileBytes, 64)
#define LOAD_B(plane)                           \
  _tile_loadd(6, b + (plane) * kTileBytes, 64); \
  _tile_loadd(7, b_next + (plane) * kTileBytes, 64)
#define MULTIPLY()         \
  _tile_dpbf16ps(0, 4, 6); \
  _tile_dpbf16ps(1, 4, 7); \
  _tile_dpbf16ps(2, 5, 6); \
  _tile_dpbf16ps(3, 5, 7)

// 32 x 32 sums in four tiles. Of three planes the products below the rounding of a float32 are left
// out: those of planes 1 and 2, and 2 and 2.
template <int kPlanes>
HOST_AMX void multiply_tile(long blocks, const char* a, const char* b, float* c, long stride,
                            bool first) {
  const long step = kPlanes * kTileBytes, row = stride * long(sizeof(float));
  const char *a_next = a + blocks * step, *b_next = b + blocks * step;
  asm volatile("" ::: "memory");  // the intrinsics do not tell what they read
  if (first) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, c, row);
    _tile_loadd(1, c + 16, row);
    _tile_loadd(2, c + 16 * stride, row);
    _tile_loadd(3, c + 16 * stride + 16, row);
  }
  for (long p = 0; p < blocks; ++p, a += step, b += step, a_next += step, b_next += step) {
    if constexpr (kPlanes == 3) {
      LOAD_A(0);
      LOAD_B(2);
      MULTIPLY();
      LOAD_B(1);
      MULTIPLY();
      LOAD_A(1);
      MULTIPLY();
      LOAD_B(0);
      MULTIPLY();
      LOAD_A(0);
      MULTIPLY();
      LOAD_A(2);
      MULTIPLY();
    } else if constexpr (kPlanes == 2) {
      LOAD_A(1);
      LOAD_B(1);
      MULTIPLY();
      LOAD_B(0);
      MULTIPLY();
      LOAD_A(0);
      MULTIPLY();
      LOAD_B(1);
      MULTIPLY();
    } else {
      LOAD_A(0);
      LOAD_B(0);
      MULTIPLY();
    }
  }
  _tile_stored(0, c, row);
  _tile_stored(1, c + 16, row);
  _tile_stored(2, c + 16 * stride, row);
  _tile_stored(3, c + 16 * stride + 16, row);
  asm volatile("" ::: "memory");
}

template <int kPlanes>
HOST_AMX void multiply_lines(long m, long n, long k, const char* a, const char* b, float* c,
                             long stride, bool first) {
  const long blocks = depth_blocks(k), line = blocks * kPlanes * kTileBytes / kLines;
  alignas(64) float edge[kTile * kTile];
  asm volatile("ldtilecfg %0" ::"m"(kConfiguration));
  for (long j = 0; j < n; j += kTile) {
    const long columns = std::min(kTile, n - j);
    for (long i = 0; i < m; i += kTile) {
      const long rows = std::min(kTile, m - i);
      float* to = c + i * stride + j;
      if (rows == kTile && columns == kTile) {
        multiply_tile<kPlanes>(blocks, a + i * line, b + j * line, to, stride, first);
        continue;
      }
      multiply_tile<kPlanes>(blocks, a + i * line, b + j * line, edge, kTile, true);
      for (long r = 0; r < rows; ++r) {
        for (long s = 0; s < columns; ++s) {
          to[r * stride + s] = edge[r * kTile + s] + (first ? 0 : to[r * stride + s]);
        }
      }
    }
  }
  _tile_release();  // or every switch of threads would save the tiles
}

}  // namespace

bool available() {
  static const bool found = ask();
  return found;
}

void pack(const Matrix& matrix, long line, long depth_at, bool lines_are_rows, long lines,
          long depth, char* to, std::atomic<uint32_t>& most) {
  const long line_step = lines_are_rows ? matrix.row_stride : matrix.column_stride;
  const long depth_step = lines_are_rows ? matrix.column_stride : matrix.row_stride;
  const char* from =
      matrix.data + (line * line_step + depth_at * depth_step) * long(size_of(matrix.type));
  const auto run = [&]<class T, int kPlanes>(const T* typed) {
    pack_lines<T, kPlanes>(typed, line_step, depth_step, lines, depth, lines_are_rows, to, most);
  };
  if (matrix.type == DataType::Float32) {
    run.template operator()<float, 3>(reinterpret_cast<const float*>(from));
  } else if (matrix.type == DataType::Float16) {
    run.template operator()<Half, 2>(reinterpret_cast<const Half*>(from));
  } else {
    run.template operator()<BFloat, 1>(reinterpret_cast<const BFloat*>(from));
  }
}

void multiply(DataType type, long m, long n, long k, const char* a, const char* b, float* c,
              long stride, bool first) {
  const auto run = type == DataType::Float32   ? &multiply_lines<3>
                   : type == DataType::Float16 ? &multiply_lines<2>
                                               : &multiply_lines<1>;
  run(m, n, k, a, b, c, stride, first);
}

#else

bool available() { return false; }
void pack(const Matrix&, long, long, bool, long, long, char*, std::atomic<uint32_t>&) {}
void multiply(DataType, long, long, long, const char*, const char*, float*, long, bool) {}

#endif

}  // namespace host::amx

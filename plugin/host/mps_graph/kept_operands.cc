#include "plugin/host/mps_graph/kept_operands.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>

#include "plugin/host/mps_graph/amx.h"
#include "plugin/host/mps_graph/graph.h"
#include "plugin/host/parallel.h"

namespace host {
namespace {

struct Free {
  void operator()(char* p) const { std::free(p); }
};
struct Memory {
  std::unique_ptr<char, Free> bytes;
  size_t size = 0;
  char* get(size_t wanted) {
    constexpr size_t kPage = 4096;
    if (wanted > size) {
      size = (wanted + kPage - 1) / kPage * kPage;
      bytes.reset(static_cast<char*>(std::aligned_alloc(kPage, size)));
    }
    return bytes.get();
  }
};

struct Kept {
  Matrix matrix{};  // no data: nothing is kept here
  long n = 0, k = 0;
  Owner owner{};
  Memory packed;
  amx::Magnitudes magnitudes;  // of b

  bool is(const Matrix& b, long columns, long depth) const {
    return matrix.data == b.data && matrix.type == b.type && matrix.row_stride == b.row_stride &&
           matrix.column_stride == b.column_stride && n == columns && k == depth;
  }
};

constexpr size_t kMost = 4;  // weights of two directions, and their projections
constexpr long kMostBytes = long(8) << 20, kMostRows = 512, kMostDepth = 2048, kLeastSide = 16;

struct Operands {
  std::array<Kept, kMost> all;
  size_t next = 0;  // to be replaced
};
thread_local Operands held;

long padded(long lines) { return (lines + amx::kTile - 1) / amx::kTile * amx::kTile; }

const Kept& packed(const Matrix& b, long n, long k, const Owner& owner) {
  for (const Kept& kept : held.all) {
    if (kept.is(b, n, k)) return kept;
  }
  Kept& kept = held.all[held.next++ % kMost];
  const long line = amx::line_bytes(b.type, k), tiles = padded(n) / amx::kTile;
  char* to = kept.packed.get(size_t(padded(n) * line));
  kept.matrix = b, kept.n = n, kept.k = k, kept.owner = owner;
  kept.magnitudes.b = 0;
  parallel(tiles, std::max(1l, kGrain / (amx::kTile * k)), [&](long begin, long end) {
    const long at = begin * amx::kTile, count = std::min(end * amx::kTile, n) - at;
    amx::pack(b, at, 0, false, count, k, to + at * line, kept.magnitudes.b);
  });
  return kept;
}

}  // namespace

void forget_operands() {
  for (Kept& kept : held.all) kept.matrix.data = nullptr;
}

void forget_operands_at(const void* address) {
  for (Kept& kept : held.all) {
    if (address >= kept.owner.begin && address < kept.owner.end) kept.matrix.data = nullptr;
  }
}

bool multiply_by_kept(long m, long n, long k, const Matrix& a, const Matrix& b, const Owner& owner,
                      const Target& to) {
  const long line = amx::line_bytes(b.type, k);
  if (a.type != b.type || to.type != DataType::Float32 || std::min({m, n, k}) < kLeastSide ||
      m > kMostRows || k > kMostDepth || padded(n) * line > kMostBytes || !amx::available()) {
    return false;
  }
  const Kept& right = packed(b, n, k, owner);
  amx::Magnitudes magnitudes;
  magnitudes.b = right.magnitudes.b.load();
  thread_local Memory scratch;
  char* left = scratch.get(size_t(padded(m) * line));
  amx::pack(a, 0, 0, true, m, k, left, magnitudes.a);
  if (!magnitudes.fit(a.type, k)) return false;
  constexpr long kPartWork = 1 << 21;  // multiplications that are worth a thread
  const long tiles = padded(n) / amx::kTile,
             parts = std::clamp(m * n * k / kPartWork, 1l, long(parallelism()));
  const char* columns = right.packed.bytes.get();
  parallel(tiles, std::max(1l, (tiles + parts - 1) / parts), [&](long begin, long end) {
    const long at = begin * amx::kTile, count = std::min(end * amx::kTile, n) - at;
    amx::multiply(a.type, m, count, k, left, columns + at * line,
                  reinterpret_cast<float*>(to.data) + at, to.row_stride, !to.accumulate);
  });
  return true;
}

}  // namespace host

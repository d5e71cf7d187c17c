// Products of rows that lie scattered in memory: convolutions without a copy of their windows.
#pragma once

#include <vector>

#include "plugin/host/mps_graph/types.h"

namespace host {

// A stretch of consecutive elements, the same distance from the start of every row.
struct Segment {
  long offset, length;
};

// A matrix of float32 in strips of columns, as the kernels read it: strip by strip, row by row. The
// last strip may be half as wide; missing columns are zero.
class Strips {
 public:
  Strips() = default;
  Strips(float* data, long rows, long columns) : data_(data), rows_(rows), columns_(columns) {}
  static long padded(long columns);  // columns that are stored
  static long count(long columns);   // of strips
  static long width(long columns, long strip);
  static long begin(long strip);  // first column of a strip
  long columns() const { return columns_; }
  long rows() const { return rows_; }
  float* strip(long s) const { return data_ + begin(s) * rows_; }
  // Fills rows [row, row + n) of strip `s`; element (i, j) is from[i * row_stride + j *
  // column_stride].
  void fill(long s, long row, long n, const void* from, DataType type, long row_stride,
            long column_stride) const;

 private:
  float* data_ = nullptr;
  long rows_ = 0, columns_ = 0;
};

// Rows and columns of results that a kernel computes at once.
long indirect_tile_rows();

// c[i][j] = sum over k of a[i][segments(k)] * b[k][j], for the strips [first, last) of b. `a` and
// `c` have room for a multiple of the tile's rows; rows of c are Strips::padded(columns) long.
void multiply_rows(const float* const* a, long rows, const std::vector<Segment>& segments,
                   const Strips& b, long first, long last, float* c);

// c[i][j] += sum over p of a[positions[p] + i] * b[p][j]: rows of c are neighbours in memory in a.
// Fewer rows than a tile has: reads a tile's rows all the same.
void accumulate_columns(const float* a, const long* positions, long rows, const Strips& b,
                        float* c);

}  // namespace host

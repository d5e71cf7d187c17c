// A stable sort of items by the row that they belong to: what makes scatters and segment sums
// deterministic, whatever order threads run in.
#include <metal_stdlib>

#include "kernels/msl/row_index.h"
using namespace metal;

// The row of each item; `none`, beyond the last row, when an index is out of range.
kernel void row_keys(device const uchar* indices [[buffer(0)]], device uint* keys [[buffer(1)]],
                     constant RowIndex& x [[buffer(2)]], constant uint& none [[buffer(3)]],
                     uint t [[thread_position_in_grid]]) {
  const long row = row_of(indices, t, x);
  keys[t] = row < 0 ? none : uint(row);
}

// For few items: the place of an item is the number of those that come before it.
kernel void sort_by_rank(device const uint* keys [[buffer(0)]],
                         device uint* sorted_keys [[buffer(1)]],
                         device uint* sorted_items [[buffer(2)]],
                         constant SortArguments& a [[buffer(3)]],
                         uint i [[thread_position_in_grid]]) {
  const uint key = keys[i];
  uint rank = 0;
  for (uint k = 0; k < i; ++k) rank += keys[k] <= key ? 1 : 0;
  for (uint k = i + 1; k < a.count; ++k) rank += keys[k] < key ? 1 : 0;
  sorted_keys[rank] = key;
  sorted_items[rank] = i;
}

// A pass of a radix sort, in four steps. First: how often each digit occurs in each chunk.
kernel void sort_count(device const uint* keys [[buffer(0)]], device uint* counts [[buffer(1)]],
                       constant SortArguments& a [[buffer(2)]],
                       uint c [[thread_position_in_grid]]) {
  for (uint d = 0; d < a.digits; ++d) counts[d * a.chunks + c] = 0;
  const uint end = min((c + 1) * a.chunk, a.count);
  for (uint k = c * a.chunk; k < end; ++k) {
    counts[((keys[k] >> a.shift) & (a.digits - 1)) * a.chunks + c] += 1;
  }
}

// Second: for each digit, how many are in the chunks before.
kernel void sort_scan(device uint* counts [[buffer(0)]], device uint* totals [[buffer(1)]],
                      constant SortArguments& a [[buffer(2)]], uint d [[thread_position_in_grid]]) {
  uint total = 0;
  for (uint c = 0; c < a.chunks; ++c) {
    const uint n = counts[d * a.chunks + c];
    counts[d * a.chunks + c] = total;
    total += n;
  }
  totals[d] = total;
}

// Third: where each digit begins.
kernel void sort_starts(device const uint* totals [[buffer(0)]], device uint* starts [[buffer(1)]],
                        uint d [[thread_position_in_grid]]) {
  uint start = 0;
  for (uint k = 0; k < d; ++k) start += totals[k];
  starts[d] = start;
}

// Fourth: every item goes to its place.
kernel void sort_place(device const uint* keys [[buffer(0)]],
                       device const uint* items [[buffer(1)]],
                       device uint* sorted_keys [[buffer(2)]],
                       device uint* sorted_items [[buffer(3)]], device uint* counts [[buffer(4)]],
                       device const uint* starts [[buffer(5)]],
                       constant SortArguments& a [[buffer(6)]],
                       uint c [[thread_position_in_grid]]) {
  const uint end = min((c + 1) * a.chunk, a.count);
  for (uint k = c * a.chunk; k < end; ++k) {
    const uint digit = (keys[k] >> a.shift) & (a.digits - 1);
    const uint to = starts[digit] + counts[digit * a.chunks + c];
    counts[digit * a.chunks + c] += 1;
    sorted_keys[to] = keys[k];
    sorted_items[to] = a.first != 0 ? k : items[k];
  }
}

// Copies memory byte by byte: what blits cannot, whose offsets and sizes are multiples of 4.
#include <metal_stdlib>
using namespace metal;

struct CopyArguments {
  ulong count;  // bytes
};

// Each thread copies one byte.
kernel void copy_bytes(device uchar* to [[buffer(0)]], device const uchar* from [[buffer(1)]],
                       constant CopyArguments& arguments [[buffer(2)]],
                       uint i [[thread_position_in_grid]]) {
  if (i < arguments.count) to[i] = from[i];
}

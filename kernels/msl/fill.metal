// Fills memory with a pattern of 1, 2, 4 or 8 bytes.
#include <metal_stdlib>
using namespace metal;

struct FillArguments {
  ulong count;  // elements
};

// Each thread writes one element.
template <typename T>
kernel void fill(device T* to [[buffer(0)]], constant T& value [[buffer(1)]],
                 constant FillArguments& arguments [[buffer(2)]],
                 uint i [[thread_position_in_grid]]) {
  if (i < arguments.count) to[i] = value;
}

template [[host_name("fill_1")]] kernel void fill<uchar>(device uchar*, constant uchar&,
                                                         constant FillArguments&, uint);
template [[host_name("fill_2")]] kernel void fill<ushort>(device ushort*, constant ushort&,
                                                          constant FillArguments&, uint);
template [[host_name("fill_4")]] kernel void fill<uint>(device uint*, constant uint&,
                                                        constant FillArguments&, uint);
template [[host_name("fill_8")]] kernel void fill<ulong>(device ulong*, constant ulong&,
                                                         constant FillArguments&, uint);

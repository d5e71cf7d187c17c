// Arguments of the pooling shaders. Images are [batch, depth, height, width, channels]; 2-D images
// have depth 1, and images with the channels first have one channel and batch * channels images.
#pragma once

// Channels that a thread works on.
#define POOL_LANES 8

struct PoolArguments {
  unsigned channels;
  unsigned blocks;  // of POOL_LANES channels
  unsigned in[3], out[3];
  unsigned size[3], stride[3];
  int before[3];    // padding in front
  float lowest;     // of the element type: what a maximum begins with
  unsigned images;  // that share a numbering of elements: their batch counts (argmax)
};

// The gradients of the maximum with positions.
struct ArgmaxArguments {
  unsigned elements, windows;  // of one image
  unsigned buckets;            // threads of an image; each owns the elements of its remainder
  unsigned batch_index;        // positions count from the first image
};

// Arguments of the resizing shaders: images [batch, height, width, channels].
#pragma once

// Channels that a thread works on.
#define RESIZE_LANES 8

struct ResizeArguments {
  unsigned channels;
  unsigned blocks;       // of RESIZE_LANES channels
  unsigned image[2];     // height and width of the image
  unsigned resized[2];   // and of its resized form
  float scale[2];        // image pixels per resized pixel
  unsigned half_pixel;   // pixel centres are at .5
  unsigned round_index;  // nearest: round instead of floor
};

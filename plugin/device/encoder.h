// A labelled encoder that ends on scope exit, also when encoding throws: Metal ends the process
// when one is left open.
#pragma once

#include "plugin/device/label.h"
#include "plugin/metal/metal.h"

namespace tfmetal {

template <class T>  // mtl::BlitCommandEncoder or mtl::ComputeCommandEncoder
class Encoder {
 public:
  Encoder(T encoder, const Label& label) : encoder_(encoder) { encoder_.set_label(label.string()); }
  ~Encoder() { encoder_.end_encoding(); }
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;
  const T* operator->() const { return &encoder_; }
  const T& operator*() const { return encoder_; }

 private:
  const T encoder_;
};

}  // namespace tfmetal

// Blocks as host code receives them: a literal of Apple's block ABI, passed as an `id`.
#pragma once

#include "plugin/metal/objc.h"

namespace host {

bool is_block(const void* object);

// A strong reference to a block with signature void(A...).
template <class... A>
class BlockRef {
 public:
  explicit BlockRef(id block) : literal_(static_cast<Literal*>(_Block_copy(block))) {}
  BlockRef(const BlockRef& other) : literal_(static_cast<Literal*>(_Block_copy(other.literal_))) {}
  BlockRef(BlockRef&& other) noexcept : literal_(other.literal_) { other.literal_ = nullptr; }
  BlockRef& operator=(BlockRef other) noexcept {
    std::swap(literal_, other.literal_);
    return *this;
  }
  ~BlockRef() { _Block_release(literal_); }
  void operator()(A... args) const { literal_->invoke(literal_, args...); }

 private:
  struct Literal {
    void* isa;
    int flags, reserved;
    void (*invoke)(Literal*, A...);
  };
  Literal* literal_;
};

}  // namespace host

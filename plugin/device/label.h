// A name for work: op and node. Command buffers and encoders carry it, so that Metal's errors and
// tools name the op.
#pragma once

#include <atomic>
#include <string>
#include <utility>

#include "plugin/metal/foundation.h"

namespace tfmetal {

// Keeps the NSString: making one at each launch would take a fifth of the launch.
class Label {
 public:
  Label(std::string text) : text_(std::move(text)) {}
  Label(const char* text) : text_(text) {}
  ~Label() { objc_release(string_.load()); }
  Label(const Label&) = delete;
  Label& operator=(const Label&) = delete;

  const std::string& text() const { return text_; }
  // Needs an autorelease pool.
  ns::String string() const {
    if (id made = string_.load()) return ns::String(made);
    const ns::String made = ns::String::make(text_);
    id none = nullptr;
    if (string_.compare_exchange_strong(none, made.raw())) objc_retain(made.raw());
    return made;
  }

 private:
  const std::string text_;
  mutable std::atomic<id> string_{nullptr};
};

}  // namespace tfmetal

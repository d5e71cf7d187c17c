// Errors inside the plugin are exceptions; TensorFlow's C boundary turns them into TF_Status.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

#include "tensorflow/c/tf_status.h"

namespace tfmetal {

class Error : public std::runtime_error {
 public:
  Error(TF_Code code, const std::string& message) : std::runtime_error(message), code(code) {}
  const TF_Code code;
};

// "a", 1, "b" -> "a1b"
template <class... A>
std::string concat(const A&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

// One thrower per error class: throw_invalid_argument("MatMul: K is ", k);
#define TFMETAL_THROWER(name, code)           \
  template <class... A>                       \
  [[noreturn]] void name(const A&... parts) { \
    throw Error(code, concat(parts...));      \
  }
TFMETAL_THROWER(throw_invalid_argument, TF_INVALID_ARGUMENT)
TFMETAL_THROWER(throw_out_of_range, TF_OUT_OF_RANGE)
TFMETAL_THROWER(throw_resource_exhausted, TF_RESOURCE_EXHAUSTED)
TFMETAL_THROWER(throw_failed_precondition, TF_FAILED_PRECONDITION)
TFMETAL_THROWER(throw_not_found, TF_NOT_FOUND)
TFMETAL_THROWER(throw_unimplemented, TF_UNIMPLEMENTED)
TFMETAL_THROWER(throw_internal, TF_INTERNAL)
#undef TFMETAL_THROWER

}  // namespace tfmetal

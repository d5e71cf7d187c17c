// Ops of the plugin's own that keep the control of loops on the host (grappler/loops).
//
//   _MetalHostLogical(inputs: N * bool) -> y: bool
//       "and", "or" or "not" of scalars, all in host memory.
//   _MetalBoxShape(shape: int32 in host memory) -> box: float
//       a tensor without elements, of the shape with a 0 behind it: a TensorList can hold it, and
//       gives it back without a look at device memory.
//   _MetalUnboxShape(box: float) -> shape: int32 in host memory
#include <algorithm>

#include "kernels/families.h"
#include "kernels/kernel.h"
#include "plugin/op_definition.h"

namespace tfmetal {

namespace {

constexpr const char* kLogical = "_MetalHostLogical";
constexpr const char* kBox = "_MetalBoxShape";
constexpr const char* kUnbox = "_MetalUnboxShape";

void host_logical(KernelCall& call) {
  const std::string function = call.kernel().def().attr_string("function");
  size_t held = 0;
  for (size_t i = 0; i < call.num_inputs(); ++i) {
    const TensorInfo& input = call.input_info(i);
    if (input.rank() != 0) {
      throw_invalid_argument(kLogical, ": input ", i, " is ", to_string(input),
                             ", scalars are allowed");
    }
    held += *static_cast<const bool*>(call.input_data(i)) ? 1 : 0;
  }
  const bool all = held == call.num_inputs(), any = held > 0;
  const bool result = function == "and" ? all : function == "or" ? any : !any;
  *static_cast<bool*>(call.allocate_host_output(0, {TF_BOOL, {}})) = result;
}

void box_shape(KernelCall& call) {
  Node node = call.node();
  Shape shape = node.host_ints(0);
  if (node.in(0).rank() != 1 || std::ranges::any_of(shape, [](int64_t n) { return n < 0; })) {
    throw_invalid_argument(kBox, ": ", to_string(node.in(0)), " of values ", to_string(shape),
                           " is no shape");
  }
  shape.push_back(0);
  call.allocate_output(0, {TF_FLOAT, shape});
}

void unbox_shape(KernelCall& call) {
  const Shape& box = call.input_info(0).shape;
  if (box.empty()) throw_invalid_argument(kUnbox, ": a scalar holds no shape");
  const int64_t rank = static_cast<int64_t>(box.size()) - 1;
  auto* out = static_cast<int32_t*>(call.allocate_host_output(0, {TF_INT32, {rank}}));
  std::copy(box.begin(), box.end() - 1, out);
}

void define_logical() {
  define_op({kLogical,
             {"N: int >= 1", "function: {'and', 'or', 'not'}"},
             {"inputs: N * bool"},
             {"y: bool"},
             scalar_shape});
}
void define_box() { define_op({kBox, {}, {"shape: int32"}, {"box: float"}}); }
void define_unbox() { define_op({kUnbox, {}, {"box: float"}, {"shape: int32"}}); }

}  // namespace

std::vector<OpRow> loop_control_ops() {
  using enum HostUse;
  return {{.op = kLogical,
           .host = {{"inputs", kArg}, {"y", kArg}},
           .run = host_logical,
           .define = define_logical},
          {.op = kBox, .host = {{"shape", kArg}}, .run = box_shape, .define = define_box},
          {.op = kUnbox, .host = {{"shape", kArg}}, .run = unbox_shape, .define = define_unbox}};
}

}  // namespace tfmetal

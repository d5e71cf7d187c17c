// Ops of the plugin's own that keep the control of loops on the host (grappler/loops).
//
//   _MetalHostLogical(inputs: N * bool) -> y: bool
//       "and", "or" or "not" of scalars, all in host memory.
//   _MetalBoxNumbers(numbers: int32 in host memory) -> box: float
//       a scalar or a vector as the shape of a tensor without elements: a TensorList can hold it,
//       and gives it back without a look at device memory. The shape is [0, rank, numbers...], each
//       number as 2 n, or as -2 n - 1 if it is negative.
//   _MetalUnboxNumbers(box: float) -> numbers: int32 in host memory
#include <algorithm>

#include "kernels/families.h"
#include "kernels/kernel.h"
#include "plugin/op_definition.h"

namespace tfmetal {

namespace {

constexpr const char* kLogical = "_MetalHostLogical";
constexpr const char* kBox = "_MetalBoxNumbers";
constexpr const char* kUnbox = "_MetalUnboxNumbers";

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

// More would be no shape that TensorFlow takes.
constexpr size_t kMostNumbers = 252;

void box_numbers(KernelCall& call) {
  const Node node = call.node();
  const std::vector<int64_t> numbers = node.host_ints(0);
  if (node.in(0).rank() > 1 || numbers.size() > kMostNumbers) {
    throw_invalid_argument(kBox, ": ", to_string(node.in(0)),
                           " is no scalar, nor a vector of at most ", kMostNumbers, " numbers");
  }
  Shape box = {0, static_cast<int64_t>(node.in(0).rank())};
  for (const int64_t n : numbers) box.push_back(n < 0 ? -2 * n - 1 : 2 * n);
  call.allocate_output(0, {TF_FLOAT, box});
}

void unbox_numbers(KernelCall& call) {
  const Shape& box = call.input_info(0).shape;
  const bool scalar = box.size() == 3 && box[1] == 0;
  if (box.size() < 2 || box[0] != 0 || (box[1] != 1 && !scalar)) {
    throw_invalid_argument(kUnbox, ": ", to_string(box), " holds no numbers");
  }
  const int64_t count = static_cast<int64_t>(box.size()) - 2;
  const Shape shape = scalar ? Shape{} : Shape{count};
  auto* out = static_cast<int32_t*>(call.allocate_host_output(0, {TF_INT32, shape}));
  std::transform(box.begin() + 2, box.end(), out,
                 [](int64_t n) { return static_cast<int32_t>(n % 2 ? -(n + 1) / 2 : n / 2); });
}

void define_logical() {
  define_op({kLogical,
             {"N: int >= 1", "function: {'and', 'or', 'not'}"},
             {"inputs: N * bool"},
             {"y: bool"},
             scalar_shape});
}
void define_box() { define_op({kBox, {}, {"numbers: int32"}, {"box: float"}}); }
void define_unbox() { define_op({kUnbox, {}, {"box: float"}, {"numbers: int32"}}); }

}  // namespace

std::vector<OpRow> loop_control_ops() {
  using enum HostUse;
  return {
      {.op = kLogical,
       .host = {{"inputs", kArg}, {"y", kArg}},
       .run = host_logical,
       .define = define_logical},
      {.op = kBox, .host = {{"numbers", kArg}}, .run = box_numbers, .define = define_box},
      {.op = kUnbox, .host = {{"numbers", kArg}}, .run = unbox_numbers, .define = define_unbox}};
}

}  // namespace tfmetal

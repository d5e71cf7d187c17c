// Pooling. Shaders of our own: MPSGraph does not say what it does about NaN and equal elements.
#include <algorithm>

#include "kernels/families.h"
#include "kernels/msl/pooling_arguments.h"
#include "kernels/native_call.h"
#include "kernels/window.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

// Where a node has what: its inputs and outputs as the forward op's.
struct Pooling {
  Shape input, output;
  std::vector<int64_t> sizes, strides;  // one for each axis of the tensor
};

std::vector<int64_t> ints(const Node& node, const char* attr) {
  const auto values = node.def->attr_ints(attr);
  return {values.begin(), values.end()};
}

// The V2 ops have sizes and strides as inputs.
Pooling pooling_of(const Node& node, Shape input, Shape output) {
  for (size_t i = 0; i + 1 < node.inputs.size(); ++i) {
    if (node.is_host[i] && node.is_host[i + 1]) {
      return {std::move(input), std::move(output), node.host_ints(i), node.host_ints(i + 1)};
    }
  }
  return {std::move(input), std::move(output), ints(node, "ksize"), ints(node, "strides")};
}

Pooling forward_of(const Node& node) {
  return pooling_of(node, node.in(0).shape, node.out().shape);
}
Pooling gradient_of(const Node& node) {  // of MaxPool: input, output, gradient
  return pooling_of(node, node.in(0).shape, node.in(2).shape);
}
Pooling average_gradient_of(const Node& node) {  // input_shape, gradient
  return pooling_of(node, node.out().shape, node.in(1).shape);
}
Pooling argmax_gradient_of(const Node& node) {  // input, gradient, argmax
  return pooling_of(node, node.in(0).shape, node.in(2).shape);
}

bool pools_channels(const Node& node, const Pooling& p) {
  return p.sizes[ImageLayout(node).channels(p.sizes.size())] != 1;
}

Window window_of(const Node& node, const Pooling& p, size_t axis) {
  Window w = {.input = p.input[axis], .size = p.sizes[axis], .stride = p.strides[axis]};
  place_window(node, axis, &w);
  return w;
}

float lowest(TF_DataType dtype) {
  constexpr float kHalf = -65504.0f, kBFloat = -0x1.fep127f, kFloat = -0x1.fffffep127f;
  return dtype == TF_HALF ? kHalf : dtype == TF_BFLOAT16 ? kBFloat : kFloat;
}

void set_axis(PoolArguments* a, size_t i, const Window& w) {
  a->in[i] = static_cast<unsigned>(w.input);
  a->out[i] = static_cast<unsigned>(w.output);
  a->size[i] = static_cast<unsigned>(w.size);
  a->stride[i] = static_cast<unsigned>(w.stride);
  a->before[i] = static_cast<int>(w.before);
}

PoolArguments arguments(const Node& node, const Pooling& p) {
  const ImageLayout layout(node);
  const size_t rank = p.input.size(), channels = layout.channels(rank);
  PoolArguments a = {};
  for (size_t i = 0; i < 3; ++i) set_axis(&a, i, Window());
  if (pools_channels(node, p)) {  // they are the width of an image, whose channels are the pixels
    set_axis(&a, 2, window_of(node, p, channels));
    a.channels = layout.channels_first ? static_cast<unsigned>(p.input[2] * p.input[3]) : 1;
  } else {
    for (size_t i = 0; i + 2 < rank; ++i) {
      set_axis(&a, i + 5 - rank, window_of(node, p, layout.spatial(i)));
    }
    a.channels = layout.channels_first ? 1 : static_cast<unsigned>(p.input[channels]);
  }
  a.blocks = (a.channels + POOL_LANES - 1) / POOL_LANES;
  a.lowest = lowest(node.out().dtype);
  a.images = node.def->attr_bool("include_batch_in_index", false) ? 2 : 1;
  return a;
}

// Threads for a tensor of so many elements.
int64_t threads(int64_t elements, const PoolArguments& a) {
  return elements / a.channels * a.blocks;
}

// ---- launches ----------------------------------------------------------------------------------

enum Shader { kMax, kAverage };

template <Shader shader>
void forward(NativeCall& call) {
  const PoolArguments a = arguments(call.node, forward_of(call.node));
  const char* stem = shader == kMax ? "pool_max" : "pool_average";
  call.dispatch(shader_name(stem, call.node.out().dtype), threads(call.node.out().count(), a),
                {call.in(0), call.out(), NativeCall::value(a)});
}

void average_gradient(NativeCall& call) {
  const PoolArguments a = arguments(call.node, average_gradient_of(call.node));
  call.dispatch(shader_name("pool_average_gradient", call.node.out().dtype),
                threads(call.node.out().count(), a),
                {call.in(1), call.out(), NativeCall::value(a)});
}

bool overlaps(const PoolArguments& a) {
  return a.size[0] > a.stride[0] || a.size[1] > a.stride[1] || a.size[2] > a.stride[2];
}

void max_gradient(NativeCall& call) {
  const PoolArguments a = arguments(call.node, gradient_of(call.node));
  const TF_DataType dtype = call.node.out().dtype;
  const int64_t windows = threads(call.node.in(2).count(), a);
  if (!overlaps(a)) {
    return call.dispatch(shader_name("pool_max_gradient_cells", dtype), windows,
                         {call.in(0), call.in(2), call.out(), NativeCall::value(a)});
  }
  const ShaderArgument winners = {call.scratch()};
  call.dispatch(shader_name("pool_winners", dtype), windows,
                {call.in(0), winners, NativeCall::value(a)});
  call.dispatch(shader_name("pool_max_gradient", dtype), threads(call.node.out().count(), a),
                {winners, call.in(2), call.out(), NativeCall::value(a)});
}

// The winners of overlapping windows.
size_t winners_scratch(const Node& node) {
  if (node.in(2).count() == 0 || node.out().count() == 0) return 0;
  const bool gather = overlaps(arguments(node, gradient_of(node)));
  return gather ? static_cast<size_t>(node.in(2).count()) * sizeof(uint32_t) : 0;
}

// Of input, output and gradient.
void max_gradient_3d(NativeCall& call) {
  const PoolArguments a = arguments(call.node, gradient_of(call.node));
  call.dispatch(shader_name("pool_max_gradient_equal", call.node.out().dtype),
                threads(call.node.out().count(), a),
                {call.in(0), call.in(1), call.in(2), call.out(), NativeCall::value(a)});
}

Pooling second_gradient_of(const Node& node) {  // input, output, gradient like the input
  return pooling_of(node, node.in(0).shape, node.in(1).shape);
}

void max_second_gradient(NativeCall& call) {
  const PoolArguments a = arguments(call.node, second_gradient_of(call.node));
  call.dispatch(shader_name("pool_max_gradient_gradient", call.node.out().dtype),
                threads(call.node.out().count(), a),
                {call.in(0), call.in(1), call.in(2), call.out(), NativeCall::value(a)});
}

void argmax(NativeCall& call) {
  const PoolArguments a = arguments(call.node, forward_of(call.node));
  call.dispatch(shader_name("pool_argmax", call.node.out().dtype),
                threads(call.node.out().count(), a),
                {call.in(0), call.out(0), call.out(1), NativeCall::value(a)});
}

// Threads of an image that scatter: each reads all positions.
constexpr unsigned kBuckets = 32;

ArgmaxArguments argmax_arguments(const Node& node) {
  const int64_t images = node.in(0).shape[0];
  return {static_cast<unsigned>(node.in(0).count() / images),
          static_cast<unsigned>(node.in(2).count() / images), kBuckets,
          node.def->attr_bool("include_batch_in_index", false)};
}

void argmax_gradient(NativeCall& call) {
  const ArgmaxArguments a = argmax_arguments(call.node);
  call.dispatch(shader_name("pool_argmax_gradient", call.node.out().dtype),
                call.node.in(0).shape[0] * kBuckets,
                {call.in(1), call.in(2), call.out(), NativeCall::value(a)});
}

void argmax_second_gradient(NativeCall& call) {
  const ArgmaxArguments a = argmax_arguments(call.node);
  call.dispatch(shader_name("pool_argmax_gather", call.node.out().dtype), call.node.out().count(),
                {call.in(1), call.in(2), call.out(), NativeCall::value(a)});
}

// ---- checks ------------------------------------------------------------------------------------

// Channels are pooled by MaxPool only, in windows that tile them.
void check_channels(const Node& node, const Pooling& p, bool allowed) {
  const size_t rank = p.input.size(), channels = ImageLayout(node).channels(rank);
  const int64_t size = p.sizes[channels], pixel = element_count(p.sizes) / size;
  if (size == 1 && p.strides[channels] == 1) return;
  if (!allowed || pixel != 1 || size != p.strides[channels] || p.input[channels] % size != 0) {
    throw_unimplemented(node.describe(),
                        ": windows of the channel axis must be of one pixel, tile ",
                        "the axis, and belong to MaxPool; ksize is ", to_string(p.sizes),
                        ", strides are ", to_string(p.strides));
  }
}

void check_windows(const Node& node, const Pooling& p, bool channels_allowed) {
  const size_t rank = node.op().find("3D") == std::string::npos ? 4 : 5;
  if (p.input.size() != rank || p.sizes.size() != rank || p.strides.size() != rank) {
    throw_invalid_argument(node.describe(), ": input, ksize and strides must have ", rank,
                           " dimensions");
  }
  for (size_t i = 0; i < rank; ++i) {
    if (p.sizes[i] < 1 || p.strides[i] < 1) {
      throw_invalid_argument(node.describe(), ": ksize ", to_string(p.sizes), " and strides ",
                             to_string(p.strides), " must be positive");
    }
  }
  if (p.sizes[0] != 1 || p.strides[0] != 1) {
    throw_unimplemented(node.describe(), ": Pooling is not yet supported on the batch dimension.");
  }
  check_channels(node, p, channels_allowed);
  for (size_t i = 0; i + 2 < rank; ++i) {
    const Window w = window_of(node, p, ImageLayout(node).spatial(i));
    if (std::max(w.before, w.after) >= std::max<int64_t>(w.size, 1)) {
      throw_invalid_argument(node.describe(), ": padding ", std::max(w.before, w.after),
                             " needs to be smaller than the window size ", w.size);
    }
  }
}

void require_shape(const Node& node, const char* name, const Shape& shape, const Shape& expected) {
  if (shape == expected) return;
  throw_invalid_argument(node.describe(), ": Expected ", name, " shape to be ", to_string(expected),
                         ", but got ", to_string(shape));
}

Shape pooled_shape(const Node& node, const Pooling& p) {
  Shape shape = p.input;
  for (size_t i = 1; i < shape.size(); ++i) shape[i] = window_of(node, p, i).output;
  return shape;
}

template <bool channels>
void check_forward(const Node& node) {
  check_windows(node, forward_of(node), channels);
}

template <Pooling (*roles)(const Node&)>
void check_gradient(const Node& node) {
  const Pooling p = roles(node);
  check_windows(node, p, false);
  const Shape expected = pooled_shape(node, p);
  require_shape(node, "gradient", p.output, expected);
  if (!node.is_host[0]) require_shape(node, "output", node.in(1).shape, expected);
}

void check_second_gradient(const Node& node) {
  const Pooling p = second_gradient_of(node);
  check_windows(node, p, false);
  require_shape(node, "orig_output", p.output, pooled_shape(node, p));
  require_shape(node, "grad", node.in(2).shape, p.input);
}

void check_argmax_second_gradient(const Node& node) {
  const Pooling p = argmax_gradient_of(node);
  check_windows(node, p, false);
  require_shape(node, "argmax", p.output, pooled_shape(node, p));
  require_shape(node, "grad", node.in(1).shape, p.input);
}

// Where the shape function has an error, and the kernels an output of no elements.
bool infer_forward(Node* node) {
  const size_t rank = node->op().find("3D") == std::string::npos ? 4 : 5;
  const Pooling p = pooling_of(*node, node->in(0).shape, {});
  if (p.input.size() != rank || p.sizes.size() != rank || p.strides.size() != rank ||
      std::any_of(p.strides.begin(), p.strides.end(), [](int64_t n) { return n < 1; })) {
    return false;
  }
  std::vector<Window> windows;
  for (size_t axis = 1; axis < rank; ++axis) windows.push_back(window_of(*node, p, axis));
  if (!just_miss(windows)) return false;
  node->outputs = {{node->in(0).dtype, pooled_shape(*node, p)}};
  if (node->op() == "MaxPoolWithArgmax") node->outputs.push_back({TF_INT64, node->out().shape});
  return true;
}

// The shape function of AvgPoolGrad and AvgPool3DGrad takes any number of extents.
bool infer_from_shape(Node* node) {
  const std::vector<int64_t> shape = node->host_ints(0);
  const size_t rank = node->in(1).rank();
  if (node->in(0).rank() != 1 || shape.size() != rank ||
      std::any_of(shape.begin(), shape.end(), [](int64_t n) { return n < 0; })) {
    throw_invalid_argument(node->describe(), ": orig_input_shape must be 1-dimensional and have ",
                           rank, " elements that are not negative");
  }
  node->outputs = {{node->in(1).dtype, shape}};
  return true;
}

OpRow row(const char* op, Launch launch, void (*check)(const Node&)) {
  return {.op = op,
          .types = T(kFloats),
          .launch = launch,
          .empty_value = 0,
          .check = check,
          .precision = op[0] == 'A' ? Precision::kInfer : Precision::kClear};  // sums, or choices
}

// A row with sizes and strides as inputs.
OpRow sized(OpRow r) {
  r.host = {{"ksize", HostUse::kKey}, {"strides", HostUse::kKey}};
  return r;
}

OpRow max_gradient_row(const char* op) {
  OpRow r = row(op, max_gradient, check_gradient<gradient_of>);
  r.scratch = winners_scratch;
  return r;
}

OpRow average_gradient_row(const char* op) {
  OpRow r = row(op, average_gradient, check_gradient<average_gradient_of>);
  r.host = {{"orig_input_shape", HostUse::kKey}};
  r.infer = infer_from_shape;
  return r;
}

OpRow with_positions(OpRow r) {
  r.types.push_back({"Targmax", {TF_INT64}});
  return r;
}

}  // namespace

std::vector<OpRow> pooling_ops() {
  constexpr auto on_gradient = check_gradient<gradient_of>;
  std::vector<OpRow> rows = {
      row("MaxPool", forward<kMax>, check_forward<true>),
      sized(row("MaxPoolV2", forward<kMax>, check_forward<true>)),
      max_gradient_row("MaxPoolGrad"),
      sized(max_gradient_row("MaxPoolGradV2")),
      row("MaxPoolGradGrad", max_second_gradient, check_second_gradient),
      sized(row("MaxPoolGradGradV2", max_second_gradient, check_second_gradient)),
      with_positions(row("MaxPoolWithArgmax", argmax, check_forward<false>)),
      with_positions(
          row("MaxPoolGradWithArgmax", argmax_gradient, check_gradient<argmax_gradient_of>)),
      with_positions(
          row("MaxPoolGradGradWithArgmax", argmax_second_gradient, check_argmax_second_gradient)),
      row("AvgPool", forward<kAverage>, check_forward<false>),
      average_gradient_row("AvgPoolGrad"),
      row("MaxPool3D", forward<kMax>, check_forward<false>),
      row("MaxPool3DGradGrad", max_second_gradient, check_second_gradient),
      row("AvgPool3D", forward<kAverage>, check_forward<false>),
      average_gradient_row("AvgPool3DGrad"),
  };
  for (OpRow& r : rows) {
    if (std::string_view(r.op).find("Grad") == std::string_view::npos) r.infer = infer_forward;
  }
  for (TF_DataType dtype : kFloats) {  // of one type, as stock's
    OpRow r = row("MaxPool3DGrad", max_gradient_3d, on_gradient);
    r.types = {{"T", {dtype}}, {"TInput", {dtype}}};
    rows.push_back(r);
  }
  return rows;
}

}  // namespace tfmetal

#include "plugin/host/mps_graph/graph.h"

#include <algorithm>
#include <unordered_map>

#include "plugin/host/mps_graph/tensor_data.h"
#include "plugin/host/parallel.h"

namespace host {

// ---- building --------------------------------------------------------------------------------

Graph::~Graph() {
  for (const auto& node : nodes) {
    for (Tensor* tensor : node->outputs) objc_release(tensor);
  }
}

static void check_type(const std::string& name, const Type& type) {
  if (type.shape.size() > kMaxRank) {
    abort_like_apple(name + ": rank " + std::to_string(type.shape.size()) + " is above 16");
  }
  long count = 1;
  for (long extent : type.shape) {
    // Unknown extents (-1) are reported when the graph is compiled.
    if (extent > kMaxExtent) abort_like_apple("Error: NDArray dimension length > INT_MAX");
    if (extent > 0) count *= extent;
    if (count > kMaxExtent) {
      abort_like_apple(name + ": " + describe(type.shape, type.dtype) +
                       " has more than INT_MAX elements");
    }
    if (static_cast<size_t>(count) * size_of(type.dtype) > kMaxBytes) {
      abort_like_apple("Error: total bytes of NDArray > 2**32");
    }
  }
}

Node* Graph::add(std::string name, std::vector<Tensor*> inputs, std::vector<Type> results) {
  auto node = std::make_unique<Node>();
  node->name = std::move(name);
  node->inputs = std::move(inputs);
  node->order = nodes.size();
  for (Type& type : results) {
    check_type(node->name, type);
    node->outputs.push_back(make<Tensor>(node.get(), std::move(type), true));
  }
  nodes.push_back(std::move(node));
  return nodes.back().get();
}

Tensor* Graph::add(std::string name, std::vector<Tensor*> inputs, Type result, Eval eval) {
  Node* node = add(std::move(name), std::move(inputs), {std::move(result)});
  node->eval = std::move(eval);
  return node->outputs[0];
}

Tensor* Graph::alias(std::string name, Tensor* of, Shape shape) {
  Node* node = add(std::move(name), {of}, {Type{of->type.dtype, std::move(shape)}});
  node->kind = Kind::Alias;
  node->is_view = true;
  return node->outputs[0];
}

// A constant that repeats one element is read as a scalar.
static Tensor* as_scalar(Graph* graph, Tensor* tensor) {
  const Node* node = tensor->node;
  if (node->kind != Kind::Constant || node->constant.size() != size_of(tensor->type.dtype) ||
      tensor->type.shape.empty()) {
    return tensor;
  }
  std::vector<char> value = node->constant;
  Node* scalar = graph->add(node->name, {}, {Type{tensor->type.dtype, {}}});
  scalar->kind = Kind::Constant;
  scalar->constant = std::move(value);
  return scalar->outputs[0];
}

Tensor* Graph::elementwise(std::string name, std::vector<Tensor*> inputs, DataType result,
                           Elementwise operation) {
  Shape shape = broadcast_shapes(inputs, name.c_str());
  for (Tensor*& input : inputs) input = as_scalar(this, input);
  Node* node = add(std::move(name), std::move(inputs), {Type{result, std::move(shape)}});
  node->elementwise = std::move(operation);
  return node->outputs[0];
}

// The bytes of `value` as one element. Out-of-range values saturate like a cast.
static std::vector<char> element_bytes(double value, DataType type) {
  std::vector<char> bytes(size_of(type));
  dispatch(type, [&]<class T>(TypeOf<T>) {
    T element{};
    if constexpr (std::is_same_v<T, Complex>) {
      element.re = float(value);
    } else if constexpr (std::is_same_v<T, Half> || std::is_same_v<T, BFloat>) {
      from_float(float(value), element);
    } else if constexpr (std::is_same_v<T, float>) {
      element = float(value);
    } else if (type == DataType::Bool) {
      element = value != 0;
    } else if (value >= double(std::numeric_limits<T>::max())) {
      element = std::numeric_limits<T>::max();
    } else if (value > double(std::numeric_limits<T>::min())) {
      element = T(value);
    } else if (value <= double(std::numeric_limits<T>::min())) {
      element = std::numeric_limits<T>::min();
    }
    std::memcpy(bytes.data(), &element, sizeof(T));
  });
  return bytes;
}

Tensor* Graph::scalar(double value, const Shape& shape, DataType type) {
  Node* node = add("constant", {}, {Type{type, shape}});
  node->kind = Kind::Constant;
  node->constant = element_bytes(value, type);
  return node->outputs[0];
}

// ---- arguments -------------------------------------------------------------------------------

void abort_inference(const char* method, const std::string& why) {
  abort_like_apple(std::string("error: '") + method + "' " + why +
                   "\nLLVM ERROR: Failed to infer result type(s)");
}

std::string no_kernel(const char* kernel, DataType type) {
  // Apple's names of types within kernel names; Bool has none.
  static const std::unordered_map<DataType, const char*> names = {
      {DataType::Int8, "_i8"},   {DataType::Int16, "_i16"}, {DataType::Int32, "_i"},
      {DataType::Int64, "_i64"}, {DataType::UInt8, "_u8"},  {DataType::UInt16, "_u16"},
      {DataType::UInt32, "_u"},  {DataType::UInt64, "_u64"}};
  const auto name = names.find(type);
  return std::string("NSInvalidArgumentException: object cannot be nil (key: ") + kernel +
         (name == names.end() ? "" : name->second) + "_i8)";
}

[[noreturn]] static void abort_types(const char* method, const Type& a, const Type& b) {
  abort_like_apple(std::string(method) + ": error: input types '" + describe(a.shape, a.dtype) +
                   "' and '" + describe(b.shape, b.dtype) +
                   "' are not broadcast compatible\nLLVM ERROR: Failed to infer result type(s)");
}

Tensor* operand(id tensor, const char* method) {
  Tensor* typed = as<Tensor>(tensor, method);
  if (!typed) abort_like_apple(std::string(method) + ": a tensor operand is nil");
  if (!typed->ranked) abort_inference(method, "operand has no shape");
  return typed;
}

std::vector<Tensor*> operands(id array, const char* method) {
  const Array* list = as<Array>(array, method);
  if (!list) abort_like_apple(std::string(method) + ": the array of tensors is nil");
  std::vector<Tensor*> tensors;
  for (id item : list->items) tensors.push_back(operand(item, method));
  return tensors;
}

void require_same_type(const std::vector<Tensor*>& tensors, const char* method) {
  for (const Tensor* tensor : tensors) {
    const Type &first = tensors[0]->type, &other = tensor->type;
    if (other.dtype == first.dtype) continue;
    abort_types(method, first, other);
  }
}

void require_floating(const Tensor* tensor, const char* method) {
  if (is_floating(tensor->type.dtype)) return;
  abort_inference(
      method, std::string("operand must be floating point, got ") + type_name(tensor->type.dtype));
}

long require_axis(long axis, size_t rank, const char* method) {
  const long resolved = resolve_axis(axis, rank);
  if (resolved < 0) {
    abort_inference(
        method, "invalid axis: " + std::to_string(axis) +
                    ", axis must be in range -rank <= axis < rank, rank = " + std::to_string(rank));
  }
  return resolved;
}

std::vector<long> require_axes(id axes, size_t rank, const char* method) {
  std::vector<long> list;
  if (!axes) {
    for (size_t i = 0; i < rank; ++i) list.push_back(long(i));
  }
  for (long axis : numbers(axes)) list.push_back(require_axis(axis, rank, method));
  std::sort(list.begin(), list.end());
  list.erase(std::unique(list.begin(), list.end()), list.end());
  return list;
}

Shape constant_values(const Tensor* tensor, const char* method) {
  const DataType type = tensor->type.dtype;
  if (type != DataType::Int32 && type != DataType::Int64) {
    abort_inference(method, "operand #1 must be 0D tensor of integers, got " +
                                describe(tensor->type.shape, type));
  }
  if (tensor->node->kind != Kind::Constant) {
    abort_like_apple(std::string(method) +
                     ": a shape or axis that is fed crashes on a Mac; pass a constant");
  }
  const std::vector<char>& bytes = tensor->node->constant;
  Shape values(tensor->type.count());
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t at = i * size_of(type) % bytes.size();
    if (type == DataType::Int32) {
      int32_t value;
      std::memcpy(&value, &bytes[at], sizeof value);
      values[i] = value;
    } else {
      std::memcpy(&values[i], &bytes[at], sizeof(int64_t));
    }
  }
  return values;
}

// `ok`: whether the shapes broadcast; the result means nothing otherwise.
static Shape broadcast(const Shape& a, const Shape& b, bool* ok) {
  const Shape &more = a.size() >= b.size() ? a : b, &fewer = a.size() >= b.size() ? b : a;
  Shape result = more;
  *ok = true;
  for (size_t i = 0; i < fewer.size(); ++i) {
    long& extent = result[more.size() - fewer.size() + i];
    *ok = *ok && (extent == fewer[i] || extent == 1 || fewer[i] == 1);
    if (extent == 1) extent = fewer[i];
  }
  return result;
}

Shape broadcast_extents(const Shape& a, const Shape& b, const char* method) {
  bool ok;
  Shape result = broadcast(a, b, &ok);
  if (!ok) abort_inference(method, "batch extents are not broadcast compatible");
  return result;
}

Shape broadcast_shapes(const std::vector<Tensor*>& tensors, const char* method) {
  Shape result;
  for (const Tensor* tensor : tensors) {
    const Type &first = tensors[0]->type, &other = tensor->type;
    bool ok;
    result = broadcast(result, other.shape, &ok);
    if (ok) continue;
    abort_types(method, first, other);
  }
  return result;
}

// ---- evaluation ------------------------------------------------------------------------------

void parallel(long n, long grain, const std::function<void(long, long)>& body) {
  if (n <= grain) {
    if (n > 0) body(0, n);
    return;
  }
  parallel_for(size_t(n), size_t(grain),
               [&](size_t begin, size_t end) { body(long(begin), long(end)); });
}

// ---- classes, placeholders and constants -----------------------------------------------------

HOST_CLASS(MPSGraphObject, NSObject);
HOST_CLASS(MPSGraph, MPSGraphObject);
HOST_CLASS(MPSGraphTensor, MPSGraphObject);
HOST_INIT(MPSGraph, "init", []() -> id { return make<Graph>(); });

HOST_METHOD(MPSGraphTensor, "shape", [](Tensor* self) -> id {
  return self->ranked ? shape_object(self->type.shape) : nullptr;
});
// The tensor itself, so that it can be the key of a dictionary. D
HOST_METHOD(MPSGraphTensor, "copy", [](Tensor* self) -> id { return objc_retain(self); });
HOST_METHOD(MPSGraphTensor, "dataType", [](Tensor* self) -> DataType { return self->type.dtype; });

// An input. Shapes are static on the host: nil (unranked) and -1 abort, and so does an extent of
// zero, which Metal cannot allocate. D M
static Tensor* placeholder(Graph* graph, id shape, DataType type) {
  if (!shape) abort_like_apple("placeholder: the host knows static shapes only, shape is nil");
  Type result{type, numbers(shape)};
  for (long extent : result.shape) {
    if (extent == 0) abort_like_apple("placeholder: Placeholder tensor is empty");
    if (extent < 0) abort_like_apple("placeholder: the host knows static shapes only");
  }
  dispatch_bits(type, [](auto) {});
  Node* node = graph->add("placeholder", {}, {std::move(result)});
  node->kind = Kind::Placeholder;
  return node->outputs[0];
}
HOST_METHOD(MPSGraph, "placeholderWithShape:dataType:name:",
            [](Graph* self, id shape, DataType type, id) -> id {
              return placeholder(self, shape, type);
            });
// The same in Float32. D
HOST_METHOD(MPSGraph, "placeholderWithShape:name:", [](Graph* self, id shape, id) -> id {
  return placeholder(self, shape, DataType::Float32);
});

// One value. The shape is taken to be @[]; whether Apple reports @[] or @[@1] is open. ? [T1]
HOST_METHOD(MPSGraph,
            "constantWithScalar:dataType:", [](Graph* self, double value, DataType type) -> id {
              return self->scalar(value, {}, type);
            });
// The value repeated over `shape`. D
HOST_METHOD(MPSGraph, "constantWithScalar:shape:dataType:",
            [](Graph* self, double value, id shape, DataType type) -> id {
              return self->scalar(value, numbers(shape), type);
            });
// Row-major elements; a shape of rank 0 aborts (M), so does a length that does not fit (D).
HOST_METHOD(MPSGraph, "constantWithData:shape:dataType:",
            [](Graph* self, id data, id shape, DataType type) -> id {
              const Data* bytes = as<Data>(data, "constantWithData");
              Type result{type, numbers(shape)};
              if (result.shape.empty()) {
                abort_like_apple(
                    "failed assertion `shape.count > 0 failed, a constant must be passed a ranked "
                    "shape'");
              }
              if (!bytes || bytes->bytes.size() != result.bytes()) {
                abort_like_apple("constantWithData: the data does not have the length of " +
                                 describe(result.shape, type));
              }
              Node* node = self->add("constant", {}, {std::move(result)});
              node->kind = Kind::Constant;
              node->constant = bytes->bytes;
              return node->outputs[0];
            });

}  // namespace host

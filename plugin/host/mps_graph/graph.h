// MPSGraph on the host: a graph of nodes with inferred types, evaluated on the CPU.
//
// One file per family of methods. Each method: read its arguments, check them (abort_like_apple
// where Apple's framework aborts), infer the result type, add a node with its evaluation. The
// comment above each method says what it means and how sure that is:
//   D documented by Apple   M measured on a Mac   U seen in working code   ? not established
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "plugin/host/foundation.h"
#include "plugin/host/mps_graph/types.h"

namespace host {

inline constexpr size_t kMaxRank = 16;  // of an MPSNDArray
inline constexpr size_t kMaxBytes = size_t{1} << 32;
inline constexpr long kMaxExtent = std::numeric_limits<int32_t>::max();

struct Type {
  DataType dtype;
  Shape shape;
  long count() const { return element_count(shape); }
  size_t bytes() const { return size_t(count()) * size_of(dtype); }
};

// A dense row-major tensor in memory, during evaluation.
struct View {
  char* data;
  const Type* type;
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
  const Shape& shape() const { return type->shape; }
  long count() const { return type->count(); }
};
using Views = std::span<const View>;
using Eval = std::function<void(Views inputs, Views outputs)>;

struct Node;

struct Tensor : Object {
  static constexpr const char* kClass = "MPSGraphTensor";
  Tensor(Node* n, Type t, bool r) : node(n), type(std::move(t)), ranked(r) {}
  Node* node;
  Type type;
  bool ranked;  // false: shape is nil
};

// Computes `n` results from `n` values of each operand, all of the kernel's own types.
using Kernel = void (*)(const void* const* inputs, void* output, long n);

// An elementwise operation: operands broadcast. Where a tensor is of a 16-bit float type and the
// kernel is not, values are converted on the way in and rounded on the way out.
struct Elementwise {
  Kernel kernel = nullptr;
  std::vector<DataType> inputs = {};    // types the kernel reads
  DataType output = DataType::Invalid;  // type the kernel writes
};

enum class Kind { Placeholder, Constant, Compute, Alias };

struct Node {
  std::string name;
  Kind kind = Kind::Compute;
  std::vector<Tensor*> inputs;
  std::vector<Tensor*> outputs;
  Eval eval;                               // Compute without `elementwise`
  std::optional<Elementwise> elementwise;  // Compute
  std::vector<char> constant;  // Constant: all elements, or a single one that is repeated
  // Rearranges its first operand only (reshape, transpose, slice): as target of an executable,
  // straight from a feed, it may encode nothing on a Mac.
  bool is_view = false;
  bool swaps_last_axes = false;  // a transpose that a matrix product can absorb
  bool is_copy = false;          // identity
  bool is_broadcast = false;     // of its operand, as elementwise operations do it
  // Elements with the same positions along so many first axes of all operands and results depend on
  // each other only.
  size_t independent_axes = 0;
  std::string compile_error;  // Apple builds this node, and aborts when it is compiled
  size_t order = 0;           // position in the graph, a topological order
};

struct Graph : Object {
  static constexpr const char* kClass = "MPSGraph";
  ~Graph() override;
  // Adds a node with one result of each type. Checks rank and extents.
  Node* add(std::string name, std::vector<Tensor*> inputs, std::vector<Type> results);
  // The same for the usual case of one result.
  Tensor* add(std::string name, std::vector<Tensor*> inputs, Type result, Eval eval);
  Tensor* alias(std::string name, Tensor* of, Shape shape);
  Tensor* elementwise(std::string name, std::vector<Tensor*> inputs, DataType result,
                      Elementwise operation);
  Tensor* scalar(double value, const Shape& shape, DataType type);
  std::vector<std::unique_ptr<Node>> nodes;
};

// ---- arguments -------------------------------------------------------------------------------

// A tensor argument: aborts on nil, on other classes and on a nil shape.
Tensor* operand(id tensor, const char* method);
std::vector<Tensor*> operands(id array, const char* method);
// All operands of one type, or abort as Apple's type inference does.
void require_same_type(const std::vector<Tensor*>& tensors, const char* method);
void require_floating(const Tensor* tensor, const char* method);
// Resolves a possibly negative axis or aborts.
long require_axis(long axis, size_t rank, const char* method);
// nil: all axes. Sorted, without duplicates.
std::vector<long> require_axes(id axes, size_t rank, const char* method);
// The values of a constant int32/int64 tensor; aborts for anything that is fed.
Shape constant_values(const Tensor* tensor, const char* method);
// numpy rules; abort when the shapes do not broadcast.
Shape broadcast_extents(const Shape& a, const Shape& b, const char* method);
Shape broadcast_shapes(const std::vector<Tensor*>& tensors, const char* method);
// What Apple says when a graph is compiled and the framework has no kernel of this name for the
// type: "NSInvalidArgumentException". For Node::compile_error.
std::string no_kernel(const char* kernel, DataType type);
// "LLVM ERROR: Failed to infer result type(s)", Apple's answer to most mistakes.
[[noreturn]] void abort_inference(const char* method, const std::string& why);

// Splits [0, n) over threads; at once where there is no more than `grain`.
void parallel(long n, long grain, const std::function<void(long begin, long end)>& body);
// Elements below which a task is not worth a thread.
inline constexpr long kGrain = 1 << 15;

}  // namespace host

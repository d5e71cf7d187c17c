// The op table: one row per TensorFlow op (and set of types). Registration, caching, precision
// lists, documentation and test coverage derive from it.
//
// To add an op: write its lowering in kernels/lowering/<family>.cc (or its launch in
// kernels/native/<family>.cc), add a row to that file's list, and a case to tests/cases. See
// docs/cookbook.md.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/graph_builder.h"
#include "kernels/node.h"
#include "plugin/device/device.h"

namespace tfmetal {

class NativeCall;  // kernels/native_call.h
class KernelCall;  // kernels/kernel.h

// TF op -> MPSGraph nodes. `in` has one tensor per input, null for host and zero-size inputs.
// Returns one tensor per output, with the output's element count and type.
using Lower = Tensors (*)(GraphBuilder&, const Node&, Inputs in);
// Encodes the op's own shaders.
using Launch = void (*)(NativeCall&);
// Runs the whole kernel itself, for ops whose outputs TensorFlow's shape functions cannot tell
// (resources, data-dependent shapes).
using Run = void (*)(KernelCall&);

struct TypeRule {
  const char* attr;
  DTypes dtypes;
};

// kKey: the value shapes the plan and is part of its key. kArg: the value is passed at each launch,
// so that a loop over offsets compiles once; only native ops can take it.
enum class HostUse { kKey, kArg };
struct HostInput {
  const char* name;  // of the op's input argument
  HostUse use;
};

enum class ClusterPolicy { kAlways, kLarge, kNever };
// Classes of automatic mixed precision: worth it, fine if the neighbours are, harmful, neutral; and
// none, for what stays as it is (grappler/mixed_precision/classes.h).
enum class Precision { kAllow, kInfer, kDeny, kClear, kNone };
const char* name_of(Precision precision);  // "allow"

struct OpRow {
  const char* op = nullptr;
  std::vector<TypeRule> types = {};
  std::vector<HostInput> host = {};
  // Exactly one of these:
  Lower lower = nullptr;
  Launch launch = nullptr;
  Run run = nullptr;
  // The op maps elements to elements under broadcasting: shapes may be collapsed.
  bool elementwise = false;
  // Compute in float32 when the inputs are float16 or bfloat16 (sums, composed formulas).
  bool widen = false;
  // Complex operands of the graph are float32 with a last axis of 2 (lowering/complex_pairs.h).
  bool pairs = false;
  // The lowering copes with null inputs (of no elements) itself.
  bool takes_empty = false;
  // The value of a non-empty output when an input has no elements (a sum over nothing).
  std::optional<double> empty_value = {};
  // Tells the outputs where TensorFlow's shape function cannot; false: ask the shape function.
  bool (*infer)(Node*) = nullptr;
  void (*check)(const Node&) = nullptr;  // where the kernel is stricter than the shape function
  // Bytes of device memory that a launch needs: NativeCall::scratch.
  size_t (*scratch)(const Node&) = nullptr;
  // (input, output) pairs that may share memory; native ops only.
  std::vector<std::pair<int, int>> inplace = {};
  ClusterPolicy cluster = ClusterPolicy::kAlways;
  Precision precision = Precision::kNone;
  // The type attribute whose int32 is shape arithmetic (a dense layer on a batch of unknown size
  // gathers extents and multiplies them). It stays on the CPU, beside the Shape that feeds it, as
  // TensorFlow's CUDA build arranges it; on the device each result would cost a host sync.
  const char* shape_arithmetic = nullptr;
  // The type attribute that automatic mixed precision leaves as it is: of sums over many results.
  const char* keeps_type = nullptr;
  MacosVersion first = {14, 0};
  // How clusters compute the op; nothing is registered. Outside of them another row serves it, or
  // TensorFlow's own kernel.
  bool cluster_only = false;
  bool (*takes)(const NodeDef&) = nullptr;  // asks further attributes; null: it takes all
  void (*define)() = nullptr;               // registers the op itself, if it is the plugin's own
  bool (*available)() = nullptr;            // asked at registration; null: always
};

const std::vector<OpRow>& op_table();
// The row that serves these attributes outside of clusters, else the one inside; null if none does.
const OpRow* find_row(const NodeDef& def);
// That row if its kernel for these types is registered, or TensorFlow's serves it
// (OpRow::cluster_only); else null.
const OpRow* find_kernel_row(const NodeDef& def);
// The row with which the op can be a member of a cluster; null if it cannot: its types are not
// registered on this machine, its row says never, or it runs itself.
const OpRow* find_member_row(const NodeDef& def);

// {"T", kFloats} spelled shortly.
std::vector<TypeRule> T(DTypes dtypes, const char* attr = "T");

// The types that were registered of a row: those whose int32 TensorFlow keeps on the host and rows
// of a newer macOS are missing. Filled by register_kernels.
struct RegisteredRow {
  const OpRow* row;
  std::vector<TypeRule> types;
};
std::vector<RegisteredRow>& registered_rows();
// What was registered of `row`; null if nothing was.
const RegisteredRow* find_registered(const OpRow& row);

}  // namespace tfmetal

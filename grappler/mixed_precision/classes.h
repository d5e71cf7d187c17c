// The class of each op in automatic mixed precision. It decides which nodes are converted
// (painter.h):
//
//   allow   products, convolutions, recurrent layers: worth it
//   infer   can do with 16 bits unless something harmful comes before: sums, activations
//   deny    harmful, also to what comes after: exponentials, sums over many elements, losses
//   clear   has no numerics of its own: movement, selection, comparison
//   none    stays as it is: random numbers, losses of segments, what has an effect...
//
// The op table carries them (OpRow::precision); ops that only TensorFlow has kernels for are listed
// in classes.cc. They follow TensorFlow's own lists
// (tensorflow/core/grappler/optimizers/auto_mixed_precision_lists.h). The user changes them with
// the variables that TensorFlow's pass reads:
//
//   TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_{ALLOWLIST,INFERLIST,DENYLIST,CLEARLIST}_{ADD,REMOVE}
//     ops, separated by commas. An op is in one list: adding it to another one moves it.
//   TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_LEVEL
//     UNSAFE_FORCE_ALL: every float32 op that has a kernel. TREAT_INFER_AS_DENY.
//     TENSOR_CORES_ONLY: only ops of the allow list.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "kernels/op_table.h"

namespace tfmetal {

class PrecisionClasses {
 public:
  // Reads the environment. Warns once of an op that is added to two lists, or of an unknown level.
  PrecisionClasses();

  // Of a node whose data are float32.
  Precision of(const NodeDef& node) const;
  bool forces_all() const { return level_ == Level::kForceAll; }

 private:
  enum class Level { kNormal, kForceAll, kInferIsDeny, kAllowOnly };
  Precision listed(const std::string& op, Precision precision) const;
  void read_lists();
  void read_level();

  std::map<std::string, Precision> added_;
  std::map<std::string, std::vector<Precision>> removed_;
  Level level_ = Level::kNormal;
};

// Whether the device can run the node: with a kernel of ours, or with TensorFlow's if that is known
// to take the 16-bit types.
bool has_kernel(const NodeDef& node);

// TF_HALF or TF_BFLOAT16 when graphs are to be rewritten: what TF_METAL_MIXED_PRECISION says, or
// TensorFlow's own switch.
std::optional<TF_DataType> rewrite_target();

}  // namespace tfmetal

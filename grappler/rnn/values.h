// What the nodes in the body of a loop compute, as formulas over what a step of a cell makes.
//
// A node is not compared with what some version of TensorFlow would write, but evaluated, with
// polynomials for numbers: any way to write a gradient fits that is equal to it.
#pragma once

#include <map>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "grappler/rnn/polynomial.h"
#include "grappler/rnn/recurrence.h"

namespace tfmetal {

// Values of one step, [batch, units] each.
enum StepValue {
  kH,          // the hidden state before
  kC,          // LSTM: the cell state before
  kIn,         // ... and its gates
  kForget,     //
  kNew,        //
  kOut,        //
  kSquashed,   // ... tanh of the next cell state
  kUpdate,     // GRU: gates
  kReset,      //
  kProposed,   //
  kStatePart,  // ... what the reset gate multiplies
  kNextH,      // simple cell: the state behind
  kSlope,      // ... and 1 where it is positive
  kDOutput,    // gradients: of the output of the step
  kDH,         // ... of the states behind
  kDC,         //
  kThrough,    // ... of the state before, so far as it goes through the product with the weights
};

struct Value {
  enum class Kind {
    kUnknown,
    kNumbers,    // int32 that tells only sizes
    kStep,       // the number of the step
    kShape,      // int32 constants or a shape: dims, -1 where unknown
    kReduction,  // the axes that reduce to the shape `dims`
    kParts,      // [batch, parts * units]
    kInput,      // x of the step
    kWeights,
    kStateWeights,
    kShare,  // what a step adds to the gradient of weights, linear in the gradients of gates
    kInputGradient,
  };
  Kind kind = Kind::kUnknown;
  std::vector<Polynomial> parts = {};
  std::vector<int64_t> dims = {};

  static Value of(Polynomial polynomial) { return {Kind::kParts, {std::move(polynomial)}}; }
  bool is(Kind other) const { return kind == other; }
  explicit operator bool() const { return kind != Kind::kUnknown; }
};

class Values {
 public:
  Values(const WhileLoop& loop, int64_t units, Context& context)
      : loop_(loop), units_(units), context_(context) {}
  virtual ~Values() = default;

  Value operator()(Output output);
  // All nodes that a known value was computed from.
  const std::unordered_set<GraphNode*>& understood() const { return understood_; }

 protected:
  using Kind = Value::Kind;

  // What is known without a look at the node.
  virtual Value known(Output output) = 0;
  // Products of matrices, and sums over the batch.
  virtual Value multiply(const GraphNode& matmul) = 0;
  virtual Value sum_rows(const GraphNode& node, const Value& value) = 0;

  const WhileLoop& loop_;
  const int64_t units_;
  Context& context_;

 private:
  friend struct Rules;
  Value compute(Output output);

  // A chain of more nodes is no gradient of a cell, and would use up the stack.
  static constexpr int kMostDepth = 200;
  int depth_ = 0;
  std::map<std::pair<const GraphNode*, int>, Value> values_;
  std::unordered_set<GraphNode*> understood_;
};

// Those of the loop that runs the cell.
class ForwardValues : public Values {
 public:
  ForwardValues(const Recurrence& recurrence, Context& context);

 private:
  Value known(Output output) override;
  Value multiply(const GraphNode&) override { return {}; }
  Value sum_rows(const GraphNode&, const Value&) override { return {}; }

  std::vector<std::pair<Output, Value>> known_;
};

// The units of a cell; its weights have a known shape.
int64_t units_of(const Cell& cell, Context& context);

}  // namespace tfmetal

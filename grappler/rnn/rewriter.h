// Puts ops in the place of a loop over time and of its gradient.
#pragma once

#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "grappler/rnn/gradient.h"
#include "grappler/rnn/recurrence.h"

namespace tfmetal {

class RecurrenceRewriter {
 public:
  RecurrenceRewriter(GraphView& view, Context& context, Recurrence& recurrence,
                     std::optional<RecurrenceGradient> gradient)
      : view_(view),
        context_(context),
        r_(recurrence),
        gradient_(std::move(gradient)),
        root_(*recurrence.cell.match.root) {}

  // Whether there are kernels.
  bool possible() const;
  void run();

 private:
  NodeDef definition(const char* op, Recurrence::Keeps keeps) const;
  NodeDef gradient_definition() const;
  std::vector<Output> operands();
  GraphNode& add_gradient(std::vector<Output> inputs, Output reserve);

  void note_controls(const WhileLoop& loop);
  Output outside(const WhileLoop& loop, Output inside);

  void replace_results(GraphNode& rnn);
  void replace_gradients(GraphNode& gradient);
  Output summed(GraphNode& gradient, Output inside);
  Output as_row(Output vector);
  Output total(GraphNode& gradient, const LoopVariable& sum);
  void replace(Output old, Output now);

  void remove_loop(const WhileLoop& loop, GraphNode& instead);
  void remove_unread(const std::vector<GraphNode*>& nodes);

  GraphView& view_;
  Context& context_;
  Recurrence& r_;
  std::optional<RecurrenceGradient> gradient_;  // in training
  GraphNode& root_;
  std::vector<GraphNode*> controls_;
  std::unordered_map<const GraphNode*, GraphNode*> copies_;
};

}  // namespace tfmetal

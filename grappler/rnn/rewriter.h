// Puts ops in the place of a loop over time and of its gradients.
#pragma once

#include <unordered_map>
#include <vector>

#include "grappler/rnn/gradient.h"
#include "grappler/rnn/recurrence.h"

namespace tfmetal {

class RecurrenceRewriter {
 public:
  RecurrenceRewriter(GraphView& view, Context& context, Recurrence& recurrence,
                     std::vector<RecurrenceGradient>& gradients)
      : view_(view),
        context_(context),
        r_(recurrence),
        gradients_(gradients),
        root_(*recurrence.cell.match.root) {}

  // Whether there are kernels.
  bool possible() const;
  void run();

 private:
  NodeDef definition(const char* op) const;
  NodeDef gradient_definition(const RecurrenceGradient& gradient) const;
  std::vector<Output> operands();
  GraphNode& add_gradient(const RecurrenceGradient& gradient, std::vector<Output> inputs,
                          Output reserve);

  void note_controls(const WhileLoop& loop);
  Output outside(const WhileLoop& loop, Output inside);

  void replace_results(GraphNode& rnn);
  void replace_gradients(const RecurrenceGradient& gradient, GraphNode& node);
  Output summed(const RecurrenceGradient& gradient, GraphNode& node, Output inside);
  Output total(const RecurrenceGradient& gradient, GraphNode& node, const LoopVariable& sum);
  void replace(Output old, Output now);

  void remove_loop(WhileLoop& loop, GraphNode& instead);
  void remove_lists();
  void remove_unread(const std::vector<GraphNode*>& nodes);

  GraphView& view_;
  Context& context_;
  Recurrence& r_;
  std::vector<RecurrenceGradient>& gradients_;
  GraphNode& root_;
  std::vector<GraphNode*> controls_, lists_;
  std::unordered_map<const GraphNode*, GraphNode*> copies_;
};

}  // namespace tfmetal

// Searches the ways in which a tree fits a graph, by backtracking.
#pragma once

#include <memory>
#include <vector>

#include "grappler/remapper/pattern.h"

namespace tfmetal {

// A reference to a callable, for continuations: cheaper than std::function, valid while the
// callable is.
class Continuation {
 public:
  template <class F>
  Continuation(F& function)  // NOLINT: implicit on purpose
      : object_(&function), call_([](void* object) { return (*static_cast<F*>(object))(); }) {}
  bool operator()() const { return call_(object_); }

 private:
  void* object_;
  bool (*call_)(void*);
};

class Search {
 public:
  // Calls accept(match) for one match after the other until it returns true; whether it did.
  template <class F>
  bool run(const Tree& tree, GraphNode& root, F accept) {
    match_.root = &root;
    auto done = [&] { return accept(static_cast<const Match&>(match_)); };
    return match(tree, {&root, 0}, done);
  }

 private:
  using Terms = std::vector<const Tree*>;

  // Each tries to match, calls `next` when it does, and undoes what it noted when that fails.
  bool match(const Tree& tree, Output output, Continuation next);
  bool match_kind(const Tree& tree, Output output, Continuation next);
  bool match_op(const Tree& tree, Output output, Continuation next);
  bool match_inputs(const Tree& tree, const std::vector<Output>& inputs, size_t index,
                    Continuation next);
  bool match_terms(const Tree& tree, Output output, Continuation next);
  bool match_operands(const Tree& tree, std::vector<Output> operands, const Terms& terms,
                      Continuation next);
  bool assign(const Terms& terms, size_t index, std::vector<Output>& operands, Continuation next);
  bool with_member(GraphNode* node, Fate fate, Continuation next);

  Match match_;
};

}  // namespace tfmetal

// A fusion pattern is data: a tree of what the nodes must be, seen from the root (the node whose
// result the others compute), and conditions. What makes a match legal whatever the pattern is
// lives in the matcher (matcher.h).
//
// clang-format off
//   op("Relu", op("BiasAdd", {op("Conv2D|Conv3D")}))
//                         nodes by op; inputs not listed are not looked at
//   any("x")              whatever it is; the same label is the same tensor everywhere
//   op(...).as("y")       gives that tensor a label
//   constant(0.5)         a constant of one element, near that value; constant() has any value
//   sum({a, b, c})        the terms added up, in any order, by AddV2, Add or AddN
//   product({a, b, c})    the factors multiplied, in any order
//   either({a, b})        the first that fits
//   optional(a)           a term or factor that may be missing
//   maybe("Relu", a)      a, with or without that op on top
// clang-format on
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "grappler/pass.h"

namespace tfmetal {

// What becomes of a node besides the root.
enum class Fate {
  kInside,  // it disappears: only nodes of the match may read it
  kShared,  // others may read it too (a gradient, a moving average); its value stays available
};

struct Tree {
  enum class Kind { kOp, kSum, kProduct, kAny, kConstant, kEither };

  Kind kind = Kind::kAny;
  std::vector<std::string> ops = {};  // kOp: one of these
  std::vector<Tree> inputs = {};      // of the op; terms; factors; alternatives
  std::string label = {};
  std::vector<std::pair<std::string, AttrValue>> attrs = {};  // that an op must have
  std::optional<double> value = {};                           // of a constant
  Fate fate = Fate::kInside;
  bool is_optional = false;
  std::string text = {};  // for people, instead of what it is made of

  Tree as(std::string name) const;
  Tree shared() const;
  Tree described(std::string text) const;
  Tree with(std::string attr, AttrValue value) const;
  Tree with(std::string attr, bool value) const { return with(attr, AttrValue::of_bool(value)); }
  Tree with(std::string attr, const char* value) const {
    return with(attr, AttrValue::of_string(value));
  }
};

// `ops`: names separated by "|".
Tree op(std::string_view ops, std::vector<Tree> inputs = {});
Tree op(std::string_view ops, Tree input);
Tree any(std::string label = {});
Tree constant(std::optional<double> value = {});
Tree sum(std::vector<Tree> terms);
Tree product(std::vector<Tree> factors);
Tree either(std::vector<Tree> alternatives);
Tree optional(Tree tree);
Tree maybe(std::string_view ops, Tree input);

// For people: "Mul(x, Sigmoid(x))".
std::string to_text(const Tree& tree);
// The most nodes that can match.
int size_of(const Tree& tree);
// The ops that the root may be.
std::vector<std::string> root_ops(const Tree& tree);

// The nodes that a pattern found.
struct Match {
  struct Member {
    GraphNode* node;
    Fate fate;
  };
  GraphNode* root = nullptr;
  std::vector<Member> members;  // the root among them
  std::vector<std::pair<std::string, Output>> labels;

  std::vector<GraphNode*> nodes() const;
  int work() const;  // members that are not mere aliases of their input
  bool contains(const GraphNode* node) const;
  const Output* find(std::string_view label) const;  // null when a part is missing
  Output at(std::string_view label) const;           // throws Internal
};

struct Condition {
  const char* says;  // "the bias is a vector"
  bool (*holds)(const Match&, Context&);
};

struct Pattern {
  const char* name;   // in TF_METAL_GRAPPLER=-remapper/<name> and in stats()["fusions"]
  const char* fuses;  // one line for docs/fusions.md
  Tree tree;
  std::vector<Condition> when = {};
  // Does something else than to make one op of the members, and returns the node that has the
  // root's value now. Runs before the patterns without.
  GraphNode* (*rewrite)(GraphView&, Context&, const Match&) = nullptr;
};

}  // namespace tfmetal

// Decides which nodes of a graph compute with 16 bits. Takes time linear in the graph.
//
// A node can be converted when its op has a class (classes.h), it is on the device, nobody asks for
// it by name, a kernel takes the 16-bit type, and it reads no float32 from host memory. Of these,
//
// 1. all of class allow are converted;
// 2. what comes after one of class deny, through infer and clear, is tainted: it stays. The first
//    of class allow on the way ends this. A node with a constant that the type cannot hold (1e-9,
//    or -1e9 of a mask, in float16) counts as deny;
// 3. of class infer and clear, what lies between converted nodes, before one and after another, is
//    converted;
// 4. of class clear, so is what hangs together with them;
// 5. what must have one type (a loop's Merge and its NextIteration, all that handles one
//    TensorList, a recurrent layer and its gradient) stays where it is not converted as a whole;
// 6. of class clear, what only takes float32 values on to a reader of float32 stays: the value
//    would lose its digits for nothing. So do gathers from such values: of a table of embeddings,
//    only the rows are converted.
//
// What a variable keeps is computed with 32 bits: the last computation before an assignment stays,
// and with it each sum that a training adds to a weight.
#pragma once

#include <string>
#include <vector>

#include "grappler/mixed_precision/classes.h"
#include "grappler/pass.h"

namespace tfmetal {

// A node that has a class, and an attribute that says float32.
struct Candidate {
  GraphNode* node = nullptr;
  Precision precision = Precision::kNone;
  bool convertible = false;
  bool tainted = false;
  bool converted = false;
  std::string why = {};                         // for people: of what it became, or stayed
  std::vector<std::string> attrs = {};          // the type attributes to change
  std::vector<bool> inputs = {}, outputs = {};  // the tensors that change with them
  std::vector<int> sources = {}, readers = {};  // candidates on the other side of such tensors
  bool other_readers = false;                   // or something else is
  int group = -1;                               // of those that must have one type
};

class Painting {
 public:
  Painting(const GraphView& view, const Context& context, const PrecisionClasses& classes,
           TF_DataType target);

  const std::vector<Candidate>& candidates() const { return all_; }
  int converted() const;
  // Whether a tensor that was float32 has the 16-bit type now. Also for nodes added since.
  bool is_reduced(Output output) const;
  bool is_reduced(Use input) const;

 private:
  using Flags = std::vector<char>;  // by candidate
  static constexpr int kNone = -1;

  void collect(const GraphView& view, const Context& context);
  void connect(Candidate& reader);
  void group_loops();
  void group_lists(const GraphView& view, const Context& context);
  void group_reserves();
  void link(const std::vector<int>& members);
  void join(const std::vector<int>& members, bool allowed);
  void look_at_constants();
  void keep_variables(const GraphView& view);
  void keep(Candidate& candidate, std::string why);

  void paint_allowed();
  void taint();
  void paint_between();
  void paint_around();
  void agree_in_groups();
  void retreat();
  void explain();

  // All that paths along `next` lead to from the candidates in `from`, through those that `enter`
  // accepts. The starts are among them.
  template <class Enter>
  Flags reach(std::vector<int> from, std::vector<int> Candidate::* next, Enter enter) const;
  template <class Is>
  std::vector<int> all_that(Is is) const;
  int find(const GraphNode& node) const;

  const PrecisionClasses& classes_;
  const TF_DataType target_;
  std::vector<Candidate> all_;
  std::vector<int> number_;  // by node, in all_; -1: none
  std::vector<std::vector<int>> groups_;
};

}  // namespace tfmetal

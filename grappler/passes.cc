// The passes, in order.
#include "grappler/cluster/cluster.h"
#include "grappler/loops/loops.h"
#include "grappler/mixed_precision/mixed_precision.h"
#include "grappler/pass.h"
#include "grappler/remapper/remapper.h"
#include "grappler/rnn/rnn.h"
#include "grappler/variables/variables.h"
#include "plugin/runtime_op.h"

namespace tfmetal {

const std::vector<Pass>& passes() {
  static const std::vector<Pass> table = {
      {"rnn", fuse_recurrent_loops, recurrent_cell_names},
      {"variables", simplify_variables},
      {"host_predicates", compute_predicates_on_host},
      {"lists", convert_lists},
      {"remapper", remap, pattern_names},
      {"mixed_precision", mix_precision},
      {"cluster", form_clusters},
  };
  return table;
}

namespace {

const RuntimeCall kPasses("passes", "the graph passes, in order, each with the parts it is made of",
                          [](const json::Value&) {
                            json::Object all;
                            for (const Pass& pass : passes()) {
                              json::Array parts;
                              if (pass.parts) {
                                for (const std::string& part : pass.parts()) parts.push_back(part);
                              }
                              all.emplace_back(pass.name, parts);
                            }
                            return json::Value(all);
                          });

}  // namespace

}  // namespace tfmetal

// The passes, in order.
#include "grappler/pass.h"
#include "grappler/remapper/remapper.h"
#include "grappler/variables/variables.h"

namespace tfmetal {

const std::vector<Pass>& passes() {
  static const std::vector<Pass> table = {
      {"variables", simplify_variables},
      {"remapper", remap, pattern_names},
  };
  return table;
}

}  // namespace tfmetal

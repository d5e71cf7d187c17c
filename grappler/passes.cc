// The passes, in order.
#include "grappler/pass.h"
#include "grappler/remapper/remapper.h"

namespace tfmetal {

const std::vector<Pass>& passes() {
  static const std::vector<Pass> table = {
      {"remapper", remap, pattern_names},
  };
  return table;
}

}  // namespace tfmetal

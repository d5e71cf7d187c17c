// The passes, in order.
#include "grappler/pass.h"

namespace tfmetal {

const std::vector<Pass>& passes() {
  static const std::vector<Pass> table = {};
  return table;
}

}  // namespace tfmetal

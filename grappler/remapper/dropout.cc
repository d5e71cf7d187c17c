// Dropout, forward and backward.
//
//   dropout            kept = (random numbers >= constant)
//                      Select(kept, constant * x, constant), or constant * x * Cast(kept)
//                      stateless random numbers are made inside; the gradient may read `kept`
//   dropout_gradient   constant * Select(kept, dy, constant)
#include "grappler/remapper/remapper.h"

namespace tfmetal {

std::vector<Pattern> dropout_patterns() {
  const Tree numbers = either({op("StatelessRandomUniformV2|StatelessRandomUniform"), any()});
  const Tree kept = op("GreaterEqual", {numbers, constant()}).shared();
  const Tree scaled = product({constant(), any("x")});
  return {
      {"dropout", "`Dropout`, `tf.nn.dropout`",
       either({op("SelectV2", {kept, scaled, constant()}),
               product({op("Cast", kept), constant(), any("x")})})},
      {"dropout_gradient", "its gradient",
       product({constant(), op("SelectV2", {any("kept"), any("dy"), constant(0)})})},
  };
}

}  // namespace tfmetal

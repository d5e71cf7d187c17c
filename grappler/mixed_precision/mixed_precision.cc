#include "grappler/mixed_precision/mixed_precision.h"

#include "grappler/cluster/cluster.h"
#include "grappler/cluster/dissolve.h"
#include "grappler/cluster/outline.h"
#include "grappler/mixed_precision/classes.h"
#include "grappler/mixed_precision/convert.h"
#include "grappler/mixed_precision/painter.h"
#include "grappler/mixed_precision/types.h"
#include "grappler/remapper/record.h"
#include "plugin/device/stats.h"

namespace tfmetal {
namespace {

bool is_start(const NodeDef& node, const PrecisionClasses& classes) {
  const Precision precision = classes.of(node);
  return (precision == Precision::kAllow ||
          (classes.forces_all() && precision != Precision::kNone)) &&
         !float_attrs(node).empty();
}

// Whether there may be anything to do: without a node to start from, there is not.
bool has_start(const GraphView& view, const Context& context, const PrecisionClasses& classes) {
  for (size_t i = 0; i < view.size(); ++i) {
    const GraphNode& node = view.node(i);
    if (node.removed() || !context.on_device(node)) continue;
    if (is_start(node.def(), classes)) return true;
    if (!is_fusion(node)) continue;
    for (const NodeDef& inner : GraphDef::parse(node.def().attr_string("graph")).nodes)
      if (is_start(inner, classes)) return true;
  }
  return false;
}

}  // namespace

int mix_precision(GraphView& view, Context& context) {
  const std::optional<TF_DataType> target = rewrite_target();
  if (!target) return 0;
  const PrecisionClasses classes;
  if (!has_start(view, context, classes)) return 0;
  GraphView graph(view.graph());
  const std::vector<Fusion> fusions = dissolve_fusions(graph, context);
  const Painting painting(graph, context, classes, *target);
  for (const Candidate& candidate : painting.candidates())
    record_precision({candidate.node->name(), candidate.node->op(), name_of(candidate.precision),
                      candidate.converted, candidate.why});
  const int converted = painting.converted();
  if (!converted) return 0;
  const int casts = Converter(graph, context, painting, *target).convert();
  restore_fusions(graph, context, fusions);
  view = std::move(graph);
  stats().nodes_converted += converted;
  stats().casts_added += casts;
  return converted;
}

}  // namespace tfmetal

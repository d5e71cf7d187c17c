#include "grappler/graphdef/graph_def.h"

#include "grappler/graphdef/wire.h"

namespace tfmetal {
namespace {

constexpr int kNode = 1;  // of tensorflow/core/framework/graph.proto

}  // namespace

GraphDef GraphDef::parse(std::string_view bytes) {
  GraphDef graph;
  for (WireReader r(bytes); r.next();) {
    if (r.is(kNode, WireType::kBytes))
      graph.nodes.push_back(NodeDef::parse(r.bytes()));
    else
      graph.rest += r.raw();
  }
  return graph;
}

std::string GraphDef::serialized() const {
  WireWriter out;
  for (const NodeDef& node : nodes) out.bytes(kNode, node.serialized());
  return out.raw(rest).take();
}

}  // namespace tfmetal

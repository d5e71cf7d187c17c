// Damages serialized graphs and walks everything that can still be read of them. Anything but a
// clean rejection (an InvalidArgument or ResourceExhausted) is a failure; sanitizers see the rest.
#pragma once

#include <algorithm>
#include <random>
#include <string>

#include "grappler/graphdef/graph_view.h"

namespace tfmetal::fuzz {

struct Result {
  int parsed = 0, rejected = 0;
};

inline constexpr size_t kTensorLimit = 1 << 20;  // bytes decoded of one damaged constant

// Bit flips, truncation, inserted length bombs, repeated and swapped pieces, deep nesting.
inline std::string damage(std::string bytes, std::mt19937& random) {
  const auto below = [&](size_t n) { return n ? random() % n : 0; };
  const int times = 1 + int(below(4));
  for (int i = 0; i < times && !bytes.empty(); ++i) {
    const size_t at = below(bytes.size());
    switch (below(6)) {
      case 0:
        bytes[at] = char(bytes[at] ^ (1 << below(8)));
        break;
      case 1:
        bytes.resize(at);
        break;
      case 2:
        bytes.insert(at, "\xff\xff\xff\xff\x0f");
        break;
      case 3: {
        const std::string piece = bytes.substr(at, below(64));
        bytes.insert(below(bytes.size()), piece);
        break;
      }
      case 4:
        bytes[at] = char(random());
        break;
      case 5: {  // a length-delimited field within itself, each length right
        std::string nested;
        const char tag = char(below(16) << 3 | 2);
        for (int depth = 0; depth < 40; ++depth)
          nested = std::string(1, tag) + char(nested.size()) + nested;
        bytes.insert(at, nested);
        break;
      }
    }
  }
  return bytes;
}

inline void touch(const AttrValue& value) {
  canonical(value);
  to_text(value);
  if (value.kind() != AttrValue::Kind::kTensor) return;
  const TensorProto tensor = value.as_tensor();
  if (tensor.dtype() != TF_STRING) tensor.data(kTensorLimit);
}

inline void walk(const std::string& bytes) {
  const GraphDef graph = GraphDef::parse(bytes);
  for (const NodeDef& node : graph.nodes) {
    for (const Attribute& attr : node.attrs()) {
      try {
        touch(attr.second);
      } catch (const Error& error) {
        if (error.code != TF_INVALID_ARGUMENT && error.code != TF_RESOURCE_EXHAUSTED) throw;
      }
    }
    canonical_attributes(node);
  }
  GraphDef::parse(graph.serialized());  // what was accepted stays acceptable
  GraphView(graph).graph().serialized();
}

inline Result run(const std::string& bytes, int count, unsigned seed) {
  std::mt19937 random(seed);
  Result result;
  for (int i = 0; i < count; ++i) {
    try {
      walk(damage(bytes, random));
      ++result.parsed;
    } catch (const Error& error) {
      if (error.code != TF_INVALID_ARGUMENT) throw;
      ++result.rejected;
    }
  }
  return result;
}

}  // namespace tfmetal::fuzz

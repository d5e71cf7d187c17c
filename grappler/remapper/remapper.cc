#include "grappler/remapper/remapper.h"

#include <algorithm>
#include <unordered_map>

#include "grappler/cluster/member.h"
#include "grappler/cluster/outline.h"
#include "grappler/remapper/matcher.h"
#include "grappler/remapper/record.h"
#include "plugin/device/stats.h"

namespace tfmetal {
namespace {

// The patterns of one phase by the op of their root.
using ByRoot = std::unordered_map<std::string, std::vector<const Pattern*>>;

ByRoot enabled_patterns(const Context& context, bool rewriting) {
  ByRoot out;
  for (const Pattern& pattern : patterns()) {
    if ((pattern.rewrite != nullptr) != rewriting) continue;
    if (!context.switches().part("remapper", pattern.name)) continue;
    for (const std::string& op : root_ops(pattern.tree)) out[op].push_back(&pattern);
  }
  return out;
}

class Remapper {
 public:
  Remapper(GraphView& view, Context& context)
      : view_(view), context_(context), matcher_(view, context) {}

  int run() {
    int changes = 0;
    // First what makes another computation of some nodes; what it makes may be part of a fusion.
    for (const bool rewriting : {true, false}) {
      if (!rewriting && !has_cluster_kernel()) break;
      const ByRoot by_root = enabled_patterns(context_, rewriting);
      if (by_root.empty()) continue;
      for (GraphNode* node : matcher_.reverse_topological())
        while (node && !node->removed() && (node = fire(by_root, *node))) ++changes;
    }
    return changes;
  }

 private:
  // Lets the pattern fire that takes most nodes; what replaces the root, or null.
  GraphNode* fire(const ByRoot& by_root, GraphNode& root) {
    const auto found = by_root.find(root.op());
    if (found == by_root.end() || !context_.on_device(root)) return nullptr;
    const Pattern* best = nullptr;
    Match match;
    for (const Pattern* pattern : found->second) {
      if (best && size_of(pattern->tree) <= match.work()) break;
      std::optional<Match> candidate = find(*pattern, root);
      if (!candidate || (best && candidate->work() <= match.work())) continue;
      best = pattern;
      match = *std::move(candidate);
    }
    return best ? &replace(*best, match) : nullptr;
  }

  std::optional<Match> find(const Pattern& pattern, GraphNode& root) {
    Refusal refusal;
    std::optional<Match> match = matcher_.find(pattern, root, recording() ? &refusal : nullptr);
    if (!refusal.rule.empty()) record_refusal(pattern.name, root, refusal);
    return match;
  }

  GraphNode& replace(const Pattern& pattern, const Match& match) {
    record_fusion(pattern, match);
    count_fusion(pattern.name);
    GraphNode& result = pattern.rewrite ? *pattern.rewrite(view_, context_, match)
                                        : outline(view_, match.nodes(), context_, pattern.name);
    matcher_.replaced(match, result);
    return result;
  }

  GraphView& view_;
  Context& context_;
  Matcher matcher_;
};

}  // namespace

const std::vector<Pattern>& patterns() {
  static const auto* const table = [] {
    auto* all = new std::vector<Pattern>();
#define TFMETAL_ADD_FAMILY(family) \
  for (Pattern& pattern : family()) all->push_back(std::move(pattern));
    TFMETAL_PATTERN_FAMILIES(TFMETAL_ADD_FAMILY)
#undef TFMETAL_ADD_FAMILY
    std::stable_sort(all->begin(), all->end(), [](const Pattern& a, const Pattern& b) {
      return size_of(a.tree) > size_of(b.tree);
    });
    return all;
  }();
  return *table;
}

std::vector<std::string> pattern_names() {
  std::vector<std::string> out;
  for (const Pattern& pattern : patterns()) out.push_back(pattern.name);
  return out;
}

int remap(GraphView& view, Context& context) { return Remapper(view, context).run(); }

}  // namespace tfmetal

#include "grappler/remapper/record.h"

#include <atomic>
#include <mutex>

#include "grappler/remapper/remapper.h"
#include "grappler/remapper/trees.h"
#include "grappler/rnn/cells.h"
#include "plugin/runtime_op.h"

namespace tfmetal {
namespace {

// Beyond it nobody reads them; TensorFlow may go on making graphs.
constexpr size_t kMaxRecords = 10000;

struct Record {
  std::atomic<bool> on{false};
  std::mutex mutex;
  json::Array fusions, refusals, precision;
};
Record& record() {
  static Record& all = *new Record;
  return all;
}

void add(json::Array& rows, json::Object row) {
  std::lock_guard lock(record().mutex);
  if (rows.size() < kMaxRecords) rows.push_back(std::move(row));
}

const char* fate_name(const Match& match, const Match::Member& member) {
  if (member.node == match.root) return "root";
  return member.fate == Fate::kShared ? "shared" : "inside";
}

const RuntimeCall kRecordFusions("record_fusions",
                                 "starts ('on': true) or stops recording what graph passes do",
                                 [](const json::Value& request) -> json::Value {
                                   const bool* on = request["on"].as<bool>();
                                   std::lock_guard lock(record().mutex);
                                   record().fusions.clear();
                                   record().refusals.clear();
                                   record().precision.clear();
                                   record().on = on && *on;
                                   return nullptr;
                                 });

const RuntimeCall kRecordedFusions("recorded_fusions",
                                   "what fused since record_fusions, and what nearly did; and what "
                                   "automatic mixed precision did with each node",
                                   [](const json::Value&) -> json::Value {
                                     std::lock_guard lock(record().mutex);
                                     return json::Object{{"fusions", record().fusions},
                                                         {"refusals", record().refusals},
                                                         {"precision", record().precision}};
                                   });

json::Array describe(const std::vector<Pattern>& table) {
  json::Array rows;
  for (const Pattern& pattern : table) {
    json::Array conditions;
    for (const Condition& condition : pattern.when) conditions.push_back(condition.says);
    rows.push_back(json::Object{{"name", pattern.name},
                                {"fuses", pattern.fuses},
                                {"tree", to_text(pattern.tree)},
                                {"when", conditions},
                                {"rewrites", pattern.rewrite != nullptr}});
  }
  return rows;
}

const RuntimeCall kPatterns("patterns",
                            "the patterns of the remapper, as they are tried, and the cells of "
                            "recurrent loops",
                            [](const json::Value&) -> json::Value {
                              json::Object parts;
                              for (auto& [name, text] : described_parts())
                                parts.emplace_back(name, text);
                              return json::Object{{"patterns", describe(patterns())},
                                                  {"cells", describe(cell_patterns())},
                                                  {"parts", parts}};
                            });

}  // namespace

bool recording() { return record().on; }

void record_fusion(const Pattern& pattern, const Match& match) {
  if (!recording()) return;
  json::Array nodes;
  for (const Match::Member& member : match.members)
    nodes.push_back(json::Object{{"op", member.node->op()},
                                 {"name", member.node->name()},
                                 {"fate", fate_name(match, member)}});
  add(record().fusions,
      {{"pattern", pattern.name}, {"root", match.root->name()}, {"nodes", nodes}});
}

void record_refusal(const char* pattern, const GraphNode& root, const Refusal& refusal) {
  add(record().refusals, {{"pattern", pattern},
                          {"root", root.name()},
                          {"rule", refusal.rule},
                          {"node", refusal.node->name()}});
}

void record_precision(const PrecisionRow& row) {
  if (!recording()) return;
  add(record().precision, {{"node", row.node},
                           {"op", row.op},
                           {"class", row.precision},
                           {"converted", row.converted},
                           {"why", row.why}});
}

}  // namespace tfmetal

#include "plugin/profiler/xspace.h"

#include <algorithm>
#include <map>

#include "grappler/graphdef/wire.h"
#include "plugin/error.h"

namespace tfmetal {
namespace {

// Field numbers of xplane.proto.
enum SpaceField { kPlanes = 1 };
enum PlaneField { kPlaneId = 1, kPlaneName = 2, kLines = 3, kEventMetadata = 4, kStatMetadata = 5 };
enum LineField { kLineId = 1, kLineName = 2, kTimestampNs = 3, kEvents = 4 };
enum EventField { kMetadataId = 1, kOffsetPs = 2, kDurationPs = 3, kStats = 4 };
enum StatField { kStatMetadataId = 1, kStrValue = 5 };
enum MetadataField { kId = 1, kName = 2 };  // of XEventMetadata and XStatMetadata
enum MapField { kMapKey = 1, kMapValue = 2 };

constexpr uint64_t kPsPerNs = 1000;
constexpr uint64_t kTfOpStat = 1;  // id of the only stat

std::string metadata_entry(uint64_t id, const std::string& name) {
  const std::string metadata = WireWriter().varint(kId, id).bytes(kName, name).take();
  return WireWriter().varint(kMapKey, id).bytes(kMapValue, metadata).take();
}

std::string encode_event(const TimelineEvent& event, uint64_t metadata_id, uint64_t line_start_ns) {
  WireWriter out;
  out.varint(kMetadataId, metadata_id)
      .varint(kOffsetPs, (event.start_ns - line_start_ns) * kPsPerNs)
      .varint(kDurationPs, (std::max(event.end_ns, event.start_ns) - event.start_ns) * kPsPerNs);
  if (!event.node.empty())
    out.bytes(kStats, WireWriter()
                          .varint(kStatMetadataId, kTfOpStat)
                          .bytes(kStrValue, event.node + ":" + event.op)
                          .str());
  return out.take();
}

using Line = std::vector<const TimelineEvent*>;

std::string encode_plane(int device, std::map<int, Line>& lines) {
  WireWriter plane;
  plane.varint(kPlaneId, uint64_t(device)).bytes(kPlaneName, concat("/device:GPU:", device));
  std::map<std::string, uint64_t> ids;  // of op names, from 1
  for (auto& [stream, events] : lines) {
    std::stable_sort(events.begin(), events.end(),
                     [](const auto* a, const auto* b) { return a->start_ns < b->start_ns; });
    const uint64_t start = events.front()->start_ns;
    WireWriter line;
    line.varint(kLineId, uint64_t(stream))
        .bytes(kLineName, concat("Metal Stream #", stream))
        .varint(kTimestampNs, start);
    for (const TimelineEvent* event : events) {
      const uint64_t id = ids.try_emplace(event->op, ids.size() + 1).first->second;
      line.bytes(kEvents, encode_event(*event, id, start));
    }
    plane.bytes(kLines, line.str());
  }
  for (const auto& [op, id] : ids) plane.bytes(kEventMetadata, metadata_entry(id, op));
  plane.bytes(kStatMetadata, metadata_entry(kTfOpStat, "tf_op"));
  return plane.take();
}

}  // namespace

std::string encode_xspace(const std::vector<TimelineEvent>& events) {
  std::map<int, std::map<int, Line>> devices;
  for (const TimelineEvent& event : events) devices[event.device][event.stream].push_back(&event);
  WireWriter space;
  for (auto& [device, lines] : devices) space.bytes(kPlanes, encode_plane(device, lines));
  return space.take();
}

}  // namespace tfmetal

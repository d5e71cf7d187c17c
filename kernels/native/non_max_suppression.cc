// Non-maximum suppression. How many boxes are left depends on data, so the host has to wait for
// them; the selection is sequential, so the host makes it, where the boxes lie.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <queue>

#include "kernels/families.h"
#include "kernels/native/node_call.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

struct Box {
  float y1, x1, y2, x2;  // two opposite corners
  float area() const { return std::abs(y2 - y1) * std::abs(x2 - x1); }
};

float overlap(const Box& a, const Box& b) {  // intersection over union
  const float area_a = a.area(), area_b = b.area();
  if (area_a <= 0 || area_b <= 0) return 0;
  const auto shared = [](float a1, float a2, float b1, float b2) {
    const float low = std::max(std::min(a1, a2), std::min(b1, b2));
    return std::max(std::min(std::max(a1, a2), std::max(b1, b2)) - low, 0.0f);
  };
  const float both = shared(a.y1, a.y2, b.y1, b.y2) * shared(a.x1, a.x2, b.x1, b.x2);
  return both / (area_a + area_b - both);
}

struct Candidate {
  float score;
  int index;
  size_t checked;  // against so many of the selected ones
  bool operator<(const Candidate& other) const {
    return score < other.score || (score == other.score && index > other.index);
  }
};

struct Limits {
  int64_t most;
  float overlap, score, sigma;
};

// The factor on the score of a box that overlaps a selected one. Soft suppression knows no limit.
float weight(float similarity, const Limits& limits) {
  if (limits.sigma > 0) return std::exp(-0.5f / limits.sigma * similarity * similarity);
  return similarity <= limits.overlap ? 1.0f : 0.0f;
}

// In order of falling scores. With `sigma` an overlap lowers the score instead (soft suppression).
template <class BoxAt, class ScoreAt>
std::vector<Candidate> select(int64_t count, BoxAt box, ScoreAt score, const Limits& limits) {
  std::priority_queue<Candidate> queue;
  for (int i = 0; i < count; ++i) {
    if (score(i) > limits.score) queue.push({score(i), i, 0});
  }
  std::vector<Candidate> selected;
  while (static_cast<int64_t>(selected.size()) < limits.most && !queue.empty()) {
    Candidate next = queue.top();
    queue.pop();
    const float original = next.score;
    bool suppressed = false;
    for (size_t j = selected.size(); j-- > next.checked && !suppressed;) {
      const float similarity = overlap(box(next.index), box(selected[j].index));
      suppressed = limits.sigma <= 0 && similarity > limits.overlap;
      next.score *= weight(similarity, limits);
      if (next.score <= limits.score) break;
    }
    next.checked = selected.size();
    if (suppressed) continue;
    if (next.score == original) {
      selected.push_back(next);
    } else if (next.score > limits.score) {
      queue.push(next);
    }
  }
  return selected;
}

float host_float(const Node& node, size_t i) {
  float value;
  std::memcpy(&value, node.host[i].data(), sizeof value);
  return value;
}

void require(bool condition, const Node& node, const char* what) {
  if (!condition) throw_invalid_argument(node.describe(), ": ", what);
}

template <class T>
T* contents(BufferSlice slice) {
  return slice.block ? reinterpret_cast<T*>(slice.contents()) : nullptr;
}

// Versions 2 to 5: (boxes, scores, max_output_size, iou_threshold, score_threshold, soft_sigma).
void non_max_suppression(KernelCall& call) {
  NodeCall n(call, false);
  const Node& node = n.node;
  Limits limits = {node.host_int(2), host_float(node, 3), std::numeric_limits<float>::lowest(), 0};
  if (node.inputs.size() > 4) limits.score = host_float(node, 4);
  if (node.inputs.size() > 5) limits.sigma = host_float(node, 5);
  const int64_t count = node.in(1).count();
  require(limits.overlap >= 0 && limits.overlap <= 1, node, "iou_threshold must be in [0, 1]");
  require(limits.sigma >= 0, node, "soft_nms_sigma must be non-negative");
  require(limits.most >= 0, node, "max_output_size must be non-negative");
  require(node.in(0).rank() == 2 && node.in(0).shape[1] == 4, node, "boxes must be [n, 4]");
  require(node.in(1).rank() == 1 && node.in(0).shape[0] == count, node,
          "scores must be as many as boxes");
  const int64_t asked = limits.most;
  limits.most = std::min(limits.most, count);
  std::vector<Candidate> selected;
  if (limits.most > 0) {
    call.synchronize();
    const Box* boxes = contents<const Box>(n.in[0]);
    const float* scores = contents<const float>(n.in[1]);
    selected =
        select(count, [&](int i) { return boxes[i]; }, [&](int i) { return scores[i]; }, limits);
  }
  const bool pads = node.def->attr_bool("pad_to_max_output_size", false);
  const auto found = static_cast<int64_t>(selected.size());
  const int64_t length = pads ? asked : found;
  const bool soft = node.op() == "NonMaxSuppressionV5";
  n.node.outputs = {{TF_INT32, {length}}};
  if (soft) n.node.outputs.push_back({TF_FLOAT, {length}});
  if (soft || node.op() == "NonMaxSuppressionV4") n.node.outputs.push_back({TF_INT32, {}});
  n.allocate();
  for (int64_t i = 0; i < length; ++i) {
    const auto at = static_cast<size_t>(i);
    contents<int32_t>(n.out[0])[i] = i < found ? selected[at].index : 0;
    if (soft) contents<float>(n.out[1])[i] = i < found ? selected[at].score : 0;
  }
  if (n.out.size() > 1) *contents<int32_t>(n.out.back()) = static_cast<int32_t>(found);
}

struct Detection {
  float score;
  int box, type;
};

// (boxes [batch, n, 1 or classes, 4], scores [batch, n, classes], per class, total, overlap, score)
void combined_non_max_suppression(KernelCall& call) {
  NodeCall n(call, false);
  const Node& node = n.node;
  require(node.in(0).rank() == 4 && node.in(0).shape[3] == 4, node, "boxes must be 4-D");
  require(node.in(1).rank() == 3, node, "scores must be 3-D");
  const int64_t batch = node.in(0).shape[0], count = node.in(0).shape[1];
  const int64_t kinds = node.in(0).shape[2], classes = node.in(1).shape[2];
  const int64_t per_class = node.host_int(2), total = node.host_int(3);
  const Limits limits = {per_class, host_float(node, 4), host_float(node, 5), 0};
  require(per_class > 0, node, "max_size_per_class must be positive");
  require(total > 0, node, "max_total_size must be > 0");
  require(limits.overlap >= 0 && limits.overlap <= 1, node, "iou_threshold must be in [0, 1]");
  require(kinds == 1 || kinds == classes, node, "boxes must be for one or for all classes");
  require(node.in(1).shape[0] == batch && node.in(1).shape[1] == count, node,
          "boxes and scores must have the same batch and number of boxes");
  const int64_t length =
      node.def->attr_bool("pad_per_class", false) ? std::min(total, per_class * classes) : total;
  n.node.outputs = {{TF_FLOAT, {batch, length, 4}},
                    {TF_FLOAT, {batch, length}},
                    {TF_FLOAT, {batch, length}},
                    {TF_INT32, {batch}}};
  call.synchronize();
  n.allocate();
  const bool clips = node.def->attr_bool("clip_boxes", true);
  for (int64_t b = 0; b < batch; ++b) {
    const Box* boxes = count > 0 ? contents<const Box>(n.in[0]) + b * count * kinds : nullptr;
    const float* scores =
        count > 0 && classes > 0 ? contents<const float>(n.in[1]) + b * count * classes : nullptr;
    // A place without a box counts as a score of -1, as in TensorFlow's kernel.
    std::vector<Detection> found(
        static_cast<size_t>(std::max<int64_t>(std::min(per_class, count) * classes, 0)),
        {-1, -1, -1});
    for (int64_t c = 0; c < classes; ++c) {
      const auto box = [&](int i) { return boxes[i * kinds + (kinds > 1 ? c : 0)]; };
      const auto score = [&](int i) { return scores[i * classes + c]; };
      const std::vector<Candidate> best = select(count, box, score, limits);
      for (size_t i = 0; i < best.size(); ++i) {
        found[static_cast<size_t>(c * std::min(per_class, count)) + i] = {
            best[i].score, best[i].index, static_cast<int>(c)};
      }
    }
    std::stable_sort(found.begin(), found.end(),
                     [](const Detection& x, const Detection& y) { return x.score > y.score; });
    Box* out_boxes = contents<Box>(n.out[0]) + b * length;
    float* out_scores = contents<float>(n.out[1]) + b * length;
    float* out_classes = contents<float>(n.out[2]) + b * length;
    std::fill(out_boxes, out_boxes + length, Box{});
    std::fill(out_scores, out_scores + length, 0.0f);
    std::fill(out_classes, out_classes + length, 0.0f);
    int64_t valid = 0;
    for (size_t i = 0; i < std::min<size_t>(found.size(), static_cast<size_t>(length)); ++i) {
      if (found[i].box < 0) continue;
      Box box = boxes[found[i].box * kinds + (kinds > 1 ? found[i].type : 0)];
      if (clips) {
        for (float* side : {&box.y1, &box.x1, &box.y2, &box.x2}) {
          *side = std::max(std::min(*side, 1.0f), 0.0f);
        }
      }
      out_boxes[valid] = box;
      out_scores[valid] = found[i].score;
      out_classes[valid++] = static_cast<float>(found[i].type);
    }
    contents<int32_t>(n.out[3])[b] = static_cast<int32_t>(valid);
  }
}

OpRow row(const char* op, std::vector<HostInput> host) {
  return {.op = op,
          .types = {{"T", {TF_FLOAT}}, {"T_threshold", {TF_FLOAT}}},
          .host = std::move(host),
          .run = non_max_suppression,
          .cluster = ClusterPolicy::kNever};
}

}  // namespace

std::vector<OpRow> non_max_suppression_ops() {
  using enum HostUse;
  std::vector<HostInput> host = {{"max_output_size", kArg}, {"iou_threshold", kArg}};
  std::vector<OpRow> rows = {row("NonMaxSuppressionV2", host)};
  host.push_back({"score_threshold", kArg});
  rows.push_back(row("NonMaxSuppressionV3", host));
  rows.push_back(row("NonMaxSuppressionV4", host));
  host.push_back({"soft_nms_sigma", kArg});
  rows.push_back(row("NonMaxSuppressionV5", host));
  rows.back().types = T({TF_FLOAT});
  rows.push_back({.op = "CombinedNonMaxSuppression",
                  .host = {{"max_output_size_per_class", kArg},
                           {"max_total_size", kArg},
                           {"iou_threshold", kArg},
                           {"score_threshold", kArg}},
                  .run = combined_non_max_suppression,
                  .cluster = ClusterPolicy::kNever});
  return rows;
}

}  // namespace tfmetal

#include "grappler/optimizer.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "grappler/analysis/topology.h"
#include "grappler/fallbacks.h"
#include "kernels/quarantined.h"
#include "plugin/device/stats.h"
#include "plugin/env.h"
#include "plugin/log.h"
#include "plugin/quarantine.h"
#include "plugin/tf_api.h"

namespace tfmetal {
namespace {

// Of the first registration. TensorFlow may load this library twice, through two paths; the second
// registration is then for a type that no node has.
const char* our_device_type = nullptr;

// One graph, from its first to its last optimization.
struct Optimizer {
  const int number = next_number()++;  // in the names of dumps
  int calls = 0;

  static std::atomic<int>& next_number() {
    static std::atomic<int> number{0};
    return number;
  }
};

void write_file(const std::filesystem::path& path, std::string_view content) {
  std::ofstream file(path, std::ios::binary);
  file.write(content.data(), std::streamsize(content.size()));
  if (!file.flush()) warn_once("Cannot write " + path.string());
}

// <directory>/graph_<process>_<graph>_<call>_<when>.{pb,txt}
void dump(const Optimizer& self, const char* when, std::string_view bytes) {
  const std::string directory = env::text(env::kDumpGraphs);
  if (directory.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  const std::string stem = concat("graph_", getpid(), "_", self.number, "_", self.calls, "_", when);
  const std::filesystem::path base = std::filesystem::path(directory) / stem;
  write_file(base.string() + ".pb", bytes);
  write_file(base.string() + ".txt", to_text(GraphDef::parse(bytes)));
}

std::string optimized(Optimizer& self, std::string_view bytes, const TF_GrapplerItem* item) {
  if (self.calls++ == 0) {
    ++stats().graphs;
    count_fallbacks(find_fallbacks(GraphDef::parse(bytes), our_device_type));
  }
  dump(self, "before", bytes);
  const Switches switches(quarantine().restrict_passes(env::text(env::kGrappler)));
  std::string result =
      run_passes(bytes, selected_passes(passes(), switches), item, our_device_type, switches);
  dump(self, "after", result);
  return result;
}

// TensorFlow has placed no quarantined op on the device, but a pass may have made one.
void check_quarantine(GraphView& view, Context& context) {
  if (quarantine().ops.empty()) return;
  for (size_t i = 0; i < view.size(); ++i) {
    const GraphNode& node = view.node(i);
    if (!node.removed() && context.on_device(node) && is_quarantined(node.def())) {
      throw_internal("it made ", node.op(), ", which a selftest found wrong on this machine");
    }
  }
}

// Copies `bytes` into a buffer that TensorFlow frees; false when memory is exhausted.
bool fill_buffer(TF_Buffer* buffer, std::string_view bytes) {
  void* data = std::malloc(std::max<size_t>(bytes.size(), 1));
  if (!data) return false;
  std::copy(bytes.begin(), bytes.end(), static_cast<char*>(data));
  buffer->data = data;
  buffer->length = bytes.size();
  buffer->data_deallocator = [](void* memory, size_t) { std::free(memory); };
  return true;
}

void optimize(void* self, const TF_Buffer* in, const TF_GrapplerItem* item, TF_Buffer* out,
              TF_Status* status) {
  const std::string_view bytes(static_cast<const char*>(in->data), in->length);
  bool filled = false;
  try {
    filled = fill_buffer(out, optimized(*static_cast<Optimizer*>(self), bytes, item));
  } catch (const std::exception& error) {
    warn_once(concat("Graph passes failed, a graph stays as it is: ", error.what()));
    filled = fill_buffer(out, bytes);
  }
  if (filled)
    tf.TF_SetStatus(status, TF_OK, "");
  else
    tf.TF_SetStatus(status, TF_RESOURCE_EXHAUSTED, "No memory for a graph");
}

}  // namespace

std::vector<Pass> selected_passes(const std::vector<Pass>& table, const Switches& switches) {
  std::vector<std::string> known = {"all", "none"};
  std::vector<Pass> out;
  for (const Pass& pass : table) {
    known.push_back(pass.name);
    if (pass.parts)
      for (const std::string& part : pass.parts()) known.push_back(concat(pass.name, "/", part));
    if (switches.pass(pass.name)) out.push_back(pass);
  }
  for (const std::string& name : switches.names())
    if (std::find(known.begin(), known.end(), name) == known.end())
      warn_once(concat("TF_METAL_GRAPPLER: there is no graph pass '", name, "'"));
  return out;
}

std::string run_passes(std::string_view bytes, const std::vector<Pass>& table,
                       const TF_GrapplerItem* item, const std::string& device_type,
                       const Switches& switches) {
  std::string current(bytes);
  if (table.empty()) return current;
  GraphView view(GraphDef::parse(current));
  Context context(item, device_type, switches);
  for (const Pass& pass : table) {
    try {
      const int changes = pass.run(view, context);
      if (!changes) continue;
      topological_order(view);  // throws if nodes wait for each other
      check_quarantine(view, context);
      current = view.graph().serialized();
      TFMETAL_LOG(kVerbose, concat("Graph pass ", pass.name, ": ", changes, " changes"));
    } catch (const std::exception& error) {
      warn_once(concat("Graph pass ", pass.name, " failed and was undone: ", error.what()));
      view = GraphView(GraphDef::parse(current));
    }
  }
  return current;
}

void fill_optimizer(TP_OptimizerRegistrationParams* params, const char* device_type) {
  if (!our_device_type) our_device_type = device_type;
  params->struct_size = TP_OPTIMIZER_REGISTRATION_PARAMS_STRUCT_SIZE;
  params->major_version = GO_MAJOR;
  params->minor_version = GO_MINOR;
  params->patch_version = GO_PATCH;
  params->device_type = device_type;
  params->optimizer_configs->struct_size = TP_OPTIMIZER_CONFIGS_STRUCT_SIZE;
  // Both would write ops in forms (NCHW transposes, fusions) that they assume of a CUDA device.
  params->optimizer_configs->layout_optimizer = TF_TriState_Off;
  params->optimizer_configs->remapping = TF_TriState_Off;
  params->optimizer->struct_size = TP_OPTIMIZER_STRUCT_SIZE;
  params->optimizer->create_func = []() -> void* { return new Optimizer; };
  params->optimizer->optimize_func = optimize;
  params->optimizer->destroy_func = [](void* self) { delete static_cast<Optimizer*>(self); };
}

}  // namespace tfmetal

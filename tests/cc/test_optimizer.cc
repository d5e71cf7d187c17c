// The runner of the graph passes, with passes made for the test, and the count of fallbacks.
#include <cstdlib>

#include "grappler/fallbacks.h"
#include "grappler/optimizer.h"
#include "plugin/device/stats.h"
#include "plugin/tf_api.h"
#include "tests/cc/check.h"

using namespace tfmetal;

static const char kGpu[] = "/job:localhost/replica:0/task:0/device:GPU:0";
static const char kCpu[] = "/job:localhost/replica:0/task:0/device:CPU:0";

static NodeDef make_node(const char* name, const char* op, const char* device, TF_DataType type,
                         const char* attr = "T") {
  NodeDef node;
  node.name = name;
  node.op = op;
  node.device = device;
  node.set_attr(attr, AttrValue::of_type(type));
  return node;
}

static GraphDef small_graph() {
  GraphDef graph;
  graph.nodes = {make_node("x", "_Arg", kGpu, TF_FLOAT), make_node("y", "Relu", kGpu, TF_FLOAT)};
  graph.nodes[1].inputs = {"x"};
  return graph;
}

// Turns Relu into Elu; finds nothing the second time.
static int relu_to_elu(GraphView& view, Context& context) {
  GraphNode* node = view.find("y");
  if (node->op() != "Relu" || !context.on_device(*node)) return 0;
  NodeDef def = node->def();
  def.inputs.clear();
  def.op = "Elu";
  view.redefine(*node, def, node->inputs());
  return 1;
}
static int break_and_throw(GraphView& view, Context&) {
  view.rename(*view.find("y"), "broken");
  throw_internal("this pass always fails");
}
static int elu_to_selu(GraphView& view, Context&) {
  GraphNode* node = view.find("y");
  if (node->op() != "Elu") return 0;
  NodeDef def = node->def();
  def.inputs.clear();
  def.op = "Selu";
  view.redefine(*node, def, node->inputs());
  return 1;
}
static int nothing(GraphView&, Context&) { return 0; }

static const std::vector<Pass> kTable = {{"first", relu_to_elu},
                                         {"failing", break_and_throw},
                                         {"second", elu_to_selu},
                                         {"idle", nothing}};

static std::string names(const std::vector<Pass>& passes) {
  std::string out;
  for (const Pass& pass : passes) out += std::string(pass.name) + " ";
  return out;
}

TEST(setting_selects_passes) {
  const auto select = [](const char* setting) {
    return names(selected_passes(kTable, Switches(setting)));
  };
  CHECK_EQ(select("all"), "first failing second idle ");
  CHECK_EQ(select("none"), "");
  CHECK_EQ(select(""), "");
  CHECK_EQ(select("all,-first"), "failing second idle ");
  CHECK_EQ(select("-failing,-idle"), "first second ");
  CHECK_EQ(select("idle,first"), "first idle ");
  CHECK_EQ(select("all,none,second"), "second ");
  CHECK_EQ(select("all,-misspelt,"), "first failing second idle ");
}

TEST(setting_selects_parts) {
  const auto on = [](const char* setting) {
    const Switches switches(setting);
    return concat(switches.pass("p"), switches.part("p", "a"), switches.part("p", "b"));
  };
  CHECK_EQ(on("all"), "111");
  CHECK_EQ(on("none"), "000");
  CHECK_EQ(on("-p/a"), "101");
  CHECK_EQ(on("all,-p/a,-p/b"), "100");
  CHECK_EQ(on("p/a"), "110");
  CHECK_EQ(on("-p,p/b"), "101");
  CHECK_EQ(on("-p/a,all"), "111");
  CHECK_EQ(on("pp,-p/ab,pp/a"), "000");
}

TEST(a_failing_pass_is_undone_and_the_others_run) {
  const std::string bytes = small_graph().serialized();
  const std::string result = run_passes(bytes, kTable, nullptr, "GPU");
  const GraphDef graph = GraphDef::parse(result);
  CHECK_EQ(graph.nodes.size(), 2u);
  CHECK_EQ(graph.nodes[1].name, "y");
  CHECK_EQ(graph.nodes[1].op, "Selu");
  CHECK_EQ(graph.nodes[1].attr_type("T"), TF_FLOAT);
  CHECK_EQ(graph.nodes[1].inputs[0], "x");
  CHECK_EQ(run_passes(result, kTable, nullptr, "GPU"), result);
}

TEST(a_graph_that_no_pass_changes_keeps_its_bytes) {
  // Fields out of order, which serializing would put in order.
  const std::string odd = std::string("\x22\x02\x08\x07", 4) + small_graph().serialized();
  CHECK_EQ(run_passes(odd, {{"idle", nothing}}, nullptr, "GPU"), odd);
  CHECK_EQ(run_passes(odd, {{"failing", break_and_throw}}, nullptr, "GPU"), odd);
  CHECK_EQ(run_passes(odd, {}, nullptr, "GPU"), odd);
  CHECK_EQ(run_passes(odd, {{"first", relu_to_elu}}, nullptr, "METAL"), odd);
}

TEST(device_types) {
  CHECK_EQ(device_type_of(kGpu), "GPU");
  CHECK_EQ(device_type_of("/device:METAL:12"), "METAL");
  CHECK_EQ(device_type_of("/device:CPU"), "CPU");
  CHECK_EQ(device_type_of(""), "");
}

TEST(fallbacks) {
  GraphDef graph = small_graph();
  const auto add = [&](const char* op, const char* device, TF_DataType type,
                       const char* attr = "T") {
    graph.nodes.push_back(make_node("n", op, device, type, attr));
  };
  add("Svd", kCpu, TF_FLOAT);
  add("Svd", kCpu, TF_COMPLEX64);
  add("Svd", kCpu, TF_DOUBLE);         // not a type of the device
  add("RandomGamma", kCpu, TF_INT32);  // not a float
  add("RandomUniform", kCpu, TF_HALF, "dtype");
  add("Cast", kCpu, TF_BFLOAT16, "DstT");
  add("Cast", kCpu, TF_INT64, "DstT");
  add("Relu", kGpu, TF_FLOAT);            // on the device
  add("Const", kCpu, TF_FLOAT, "dtype");  // plumbing
  add("Identity", kCpu, TF_FLOAT);
  add("NoTypes", kCpu, TF_FLOAT, "U");
  const std::map<std::string, int64_t> expected = {{"Svd", 2}, {"RandomUniform", 1}, {"Cast", 1}};
  CHECK(find_fallbacks(graph, "GPU") == expected);
  CHECK(find_fallbacks(graph, "METAL").empty());  // no node on that device: nothing fell back

  reset_fallbacks();
  const int64_t before = stats().fallbacks;
  count_fallbacks(expected);
  count_fallbacks(expected);
  CHECK_EQ(stats().fallbacks - before, 8);
  CHECK_EQ(fallback_ops().at("Svd"), 4);
}

// What TensorFlow calls. The test links no TensorFlow: stand-ins for the two functions needed.
static TF_Code last_code;
static void set_status(TF_Status*, TF_Code code, const char*) { last_code = code; }

static std::string call(TP_Optimizer& optimizer, void* self, const std::string& bytes) {
  TF_Buffer in{bytes.data(), bytes.size(), nullptr}, out{};
  last_code = TF_UNKNOWN;
  optimizer.optimize_func(self, &in, nullptr, &out, nullptr);
  CHECK_EQ(last_code, TF_OK);
  const std::string result(static_cast<const char*>(out.data), out.length);
  out.data_deallocator(const_cast<void*>(out.data), out.length);
  return result;
}

TEST(optimizer_as_tensorflow_calls_it) {
  tf.TF_SetStatus = &set_status;
  TP_OptimizerConfigs configs{};
  TP_Optimizer optimizer{};
  TP_OptimizerRegistrationParams params{};
  params.optimizer_configs = &configs;
  params.optimizer = &optimizer;
  fill_optimizer(&params, "GPU");
  CHECK_EQ(std::string(params.device_type), "GPU");
  CHECK_EQ(params.struct_size, size_t(TP_OPTIMIZER_REGISTRATION_PARAMS_STRUCT_SIZE));
  CHECK_EQ(configs.layout_optimizer, TF_TriState_Off);
  CHECK_EQ(configs.remapping, TF_TriState_Off);

  GraphDef graph = small_graph();
  graph.nodes.push_back(make_node("svd", "Svd", kCpu, TF_FLOAT));
  const std::string bytes = graph.serialized();
  const int64_t graphs = stats().graphs, fallbacks = stats().fallbacks;
  void* self = optimizer.create_func();
  CHECK_EQ(call(optimizer, self, bytes), bytes);
  CHECK_EQ(call(optimizer, self, bytes), bytes);  // the second call for the same graph
  CHECK_EQ(stats().graphs - graphs, 1);
  CHECK_EQ(stats().fallbacks - fallbacks, 1);
  // What is no graph goes back as it came.
  CHECK_EQ(call(optimizer, self, "\x0a\x7f no graph"), "\x0a\x7f no graph");
  CHECK_EQ(call(optimizer, self, ""), "");
  optimizer.destroy_func(self);
}

TEST_MAIN()

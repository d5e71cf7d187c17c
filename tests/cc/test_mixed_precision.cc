// Automatic mixed precision on large graphs: its time is linear. What it does to graphs is tested
// on TensorFlow's own, in tests/test_mixed_precision_pass.py.
#include <cstdlib>
#include <ctime>

#include "grappler/mixed_precision/mixed_precision.h"
#include "plugin/env.h"
#include "tests/cc/check.h"
#include "tests/cc/op_stand_in.h"

using namespace tfmetal;

constexpr double kMaxSeconds = 2;  // of this process: the machine may be busy
constexpr int kNodes = 10000;

static GraphView run(std::vector<NodeDef> nodes, int* changes) {
  stand_in_for_tensorflow();
  setenv(env::kMixedPrecision.name, "float16", 1);
  GraphView view(GraphDef{std::move(nodes), ""});
  Context context(nullptr, "GPU");
  *changes = mix_precision(view, context);
  return view;
}

// A chain of `count` nodes, each of which also reads one of the last ten, or the first.
static std::vector<NodeDef> chain(int count, bool far) {
  static const char* const kOps[] = {"MatMul", "AddV2", "Relu", "Relu", "AddV2", "Exp"};
  std::vector<NodeDef> nodes = {make("n0", "_Arg")};
  for (int i = 1; i < count; ++i) {
    const std::string op = kOps[size_t(i) % std::size(kOps)];
    std::vector<std::string> inputs = {concat("n", i - 1)};
    if (op == "MatMul" || op == "AddV2")
      inputs.push_back(concat("n", far ? i % 2 : std::max(0, i - 1 - i % 10)));
    nodes.push_back(make(concat("n", i), op, inputs));
  }
  return nodes;
}

TEST(ten_thousand_nodes_take_little_time) {
  for (const bool far : {false, true}) {
    std::vector<NodeDef> nodes = chain(kNodes, far);
    const std::clock_t start = std::clock();
    int changes = 0;
    const GraphView view = run(std::move(nodes), &changes);
    const double seconds = double(std::clock() - start) / CLOCKS_PER_SEC;
    std::printf("%d nodes: %d converted in %.3f s\n", kNodes, changes, seconds);
    CHECK(changes > kNodes / 7);
    CHECK(seconds < kMaxSeconds);
  }
}

TEST(one_product_alone) {
  int changes = 0;
  const GraphView view =
      run({make("x", "_Arg"), make("y", "MatMul", {"x", "x"}), make("out", "_Retval", {"y"})},
          &changes);
  CHECK_EQ(changes, 1);
  std::string text;
  for (const NodeDef& node : view.graph().nodes) text += node.name + " ";
  CHECK_EQ(text, "x y out x/to_float16 y/to_float32 ");
}

TEST_MAIN()

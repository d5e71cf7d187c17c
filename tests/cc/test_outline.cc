// Outlining: what goes into a cluster, what stays outside, and which names live on. The test links
// no TensorFlow: a stand-in knows the definitions of the few ops used.
#include "grappler/cluster/outline.h"
#include "tests/cc/check.h"
#include "tests/cc/op_stand_in.h"

using namespace tfmetal;

// ---- graphs -------------------------------------------------------------------------------------

static NodeDef member(const std::string& name, const std::string& op,
                      std::vector<std::string> inputs = {}) {
  NodeDef node = make(name, op, std::move(inputs));
  if (op == "Sum") node.set_attr("Tidx", AttrValue::of_type(TF_INT32));
  if (op == "Unpack") node.set_attr("num", AttrValue::of_int(2));
  node.set_attr("_class", AttrValue::of_strings({"loc:@elsewhere"}));
  return node;
}

static NodeDef constant(const std::string& name, size_t elements,
                        std::vector<std::string> inputs = {}) {
  NodeDef node = member(name, "Const", std::move(inputs));
  node.remove_attr("T");
  node.set_attr("dtype", AttrValue::of_type(TF_FLOAT));
  const std::string content(elements * sizeof(float), '\0');
  node.set_attr("value",
                AttrValue::of_tensor(TensorProto::make(TF_FLOAT, {int64_t(elements)}, content)));
  return node;
}

static std::string preserved;  // the name of the one preserved node, or ""

static Context make_context() {
  tf.TF_GetNodesToPreserveListSize =
      +[](const TF_GrapplerItem*, int* count, size_t* size, TF_Status*) {
        last_code = TF_OK;
        *count = !preserved.empty();
        *size = preserved.size();
      };
  tf.TF_GetNodesToPreserveList =
      +[](const TF_GrapplerItem*, char** values, size_t* lengths, int, void*, size_t, TF_Status*) {
        if (preserved.empty()) return;
        values[0] = preserved.data();
        lengths[0] = preserved.size();
      };
  static int item;
  return Context(reinterpret_cast<TF_GrapplerItem*>(&item), "GPU");
}

// A view of the nodes, of which those named in `members` are outlined.
struct Outlined {
  GraphView view;
  GraphNode* cluster = nullptr;

  Outlined(std::vector<NodeDef> nodes, const std::vector<std::string>& members,
           const std::string& preserve = "")
      : view(GraphDef{std::move(nodes), ""}) {
    preserved = preserve;
    again(members);
    preserved.clear();
  }
  void again(const std::vector<std::string>& members) {
    Context context = make_context();
    std::vector<GraphNode*> list;
    for (const std::string& name : members) list.push_back(view.find(name));
    cluster = &outline(view, list, context, "test");
  }
  std::string inside() const {
    std::string out;
    for (const NodeDef& node : GraphDef::parse(cluster->def().attr_string("graph")).nodes) {
      out += node.name + "=" + node.op + "(";
      for (const std::string& input : node.inputs) out += input + " ";
      out += ")\n";
    }
    return out;
  }
  std::string inputs_of(const std::string& name) const {
    std::string out;
    for (const NodeDef& node : view.graph().nodes)
      if (node.name == name)
        for (const std::string& input : node.inputs) out += input + " ";
    return out;
  }
  std::string names() const {
    std::string out;
    for (const NodeDef& node : view.graph().nodes) out += node.name + " ";
    return out;
  }
};

TEST(members_become_one_node_under_the_last_ones_name) {
  stand_in_for_tensorflow();
  const Outlined o({member("x", "_Arg"), member("r", "Relu", {"x"}),
                    member("s", "AddV2", {"r", "x"}), member("out", "_Retval", {"s"})},
                   {"s", "r"});
  CHECK_EQ(o.names(), "x out s ");
  CHECK_EQ(o.inputs_of("s"), "x ");
  CHECK_EQ(o.inputs_of("out"), "s ");
  CHECK_EQ(o.inside(), "arg_0=_Arg()\nr=Relu(arg_0 )\ns=AddV2(r arg_0 )\nresult_0=_Retval(s )\n");
  const NodeDef& def = o.cluster->def();
  CHECK_EQ(def.op, "_MetalCluster");
  CHECK_EQ(def.device, kGpu);
  CHECK_EQ(def.attr_string("pattern"), "test");
  CHECK(def.attr_types("Thost").empty());
  CHECK(def.attr_types("Targs") == std::vector{TF_FLOAT});
  CHECK(def.attr_types("Tresults") == std::vector{TF_FLOAT});
  const GraphDef body = GraphDef::parse(def.attr_string("graph"));
  CHECK(!body.nodes[1].has_attr("_class"));
  CHECK_EQ(body.nodes[1].device, "");
}

TEST(small_constants_go_in_and_large_ones_stay) {
  stand_in_for_tensorflow();
  const Outlined o({member("before", "NoOp"), constant("small", 256, {"^before"}),
                    constant("large", 257), member("a", "AddV2", {"small", "large"}),
                    member("b", "AddV2", {"a", "small"}), member("out", "_Retval", {"b"})},
                   {"a", "b"});
  CHECK_EQ(o.names(), "before large out b ");
  CHECK_EQ(o.inputs_of("b"), "large ^before ");  // what the constant waited for
  CHECK_EQ(o.inside(),
           "arg_0=_Arg()\nsmall=Const()\na=AddV2(small arg_0 )\nb=AddV2(a small )\n"
           "result_0=_Retval(b )\n");
}

TEST(host_inputs_come_first) {
  stand_in_for_tensorflow();
  const Outlined o({member("x", "_Arg"), member("axes", "_Arg"), member("s", "Sum", {"x", "axes"}),
                    member("out", "_Retval", {"s"})},
                   {"s"});
  CHECK_EQ(o.inputs_of("s"), "axes x ");
  CHECK(o.cluster->def().attr_types("Thost") == std::vector{TF_INT32});
  CHECK(o.cluster->def().attr_types("Targs") == std::vector{TF_FLOAT});
  CHECK_EQ(o.inside(), "arg_0=_Arg()\narg_1=_Arg()\ns=Sum(arg_1 arg_0 )\nresult_0=_Retval(s )\n");
}

TEST(several_results_and_ports) {
  stand_in_for_tensorflow();
  const Outlined o({member("x", "_Arg"), member("u", "Unpack", {"x"}), member("r", "Relu", {"u"}),
                    member("out", "_Retval", {"u:1"}), member("out2", "_Retval", {"r"})},
                   {"u", "r"});
  CHECK_EQ(o.inputs_of("out2"), "r ");  // its name, so result 0
  CHECK_EQ(o.inputs_of("out"), "r:1 ");
  CHECK_EQ(o.inside(),
           "arg_0=_Arg()\nu=Unpack(arg_0 )\nr=Relu(u )\nresult_0=_Retval(r )\n"
           "result_1=_Retval(u:1 )\n");
}

TEST(control_edges_move_to_the_cluster) {
  stand_in_for_tensorflow();
  const Outlined o(
      {member("x", "_Arg"), member("first", "NoOp"), member("a", "Relu", {"x", "^first"}),
       member("b", "Relu", {"a", "^first", "^a"}), member("then", "NoOp", {"^a", "^b"}),
       member("out", "_Retval", {"b"})},
      {"a", "b"});
  CHECK_EQ(o.inputs_of("b"), "x ^first ");
  CHECK_EQ(o.inputs_of("then"), "^b ");
}

TEST(preserved_names_live_on) {
  stand_in_for_tensorflow();
  const std::vector<NodeDef> nodes = {
      member("x", "_Arg"),        member("a", "Relu", {"x"}),      member("u", "Unpack", {"a"}),
      member("b", "Relu", {"u"}), member("out", "_Retval", {"b"}),
  };
  // One output: the cluster is called so.
  const Outlined inner(nodes, {"a", "u", "b"}, "a");
  CHECK_EQ(inner.names(), "x out a ");
  CHECK_EQ(inner.inputs_of("out"), "a:1 ");
  // Several outputs: an IdentityN beside the cluster.
  const Outlined several(nodes, {"a", "u", "b"}, "u");
  CHECK_EQ(several.names(), "x out b/test u ");
  CHECK_EQ(several.inputs_of("u"), "b/test b/test:1 ");
  CHECK_EQ(several.inputs_of("out"), "b/test:2 ");
  CHECK_EQ(several.view.find("u")->op(), "IdentityN");
  CHECK(several.view.find("u")->def().attr_types("T") == std::vector(2, TF_FLOAT));
  // Nobody else reads it.
  const Outlined last({nodes.begin(), nodes.end() - 1}, {"a", "u", "b"}, "b");
  CHECK_EQ(last.names(), "x b ");
}

TEST(clusters_are_dissolved_in_larger_ones) {
  stand_in_for_tensorflow();
  Outlined o(
      {member("x", "_Arg"), member("y", "_Arg"), constant("c", 1), member("a", "AddV2", {"x", "c"}),
       member("b", "Relu", {"a"}), member("d", "AddV2", {"b", "y"}), member("e", "Relu", {"d"}),
       member("out", "_Retval", {"e"})},
      {"a", "b"});
  o.again({"d", "e"});
  CHECK_EQ(o.names(), "x y out b e ");
  o.again({"b", "e"});
  CHECK_EQ(o.names(), "x y out e ");
  CHECK_EQ(o.inputs_of("e"), "x y ");
  CHECK_EQ(o.inside(),
           "arg_0=_Arg()\narg_1=_Arg()\nc=Const()\na=AddV2(arg_0 c )\nb=Relu(a )\n"
           "d=AddV2(b arg_1 )\ne=Relu(d )\nresult_0=_Retval(e )\n");
}

TEST(what_cannot_be_outlined_leaves_the_graph_alone) {
  stand_in_for_tensorflow();
  GraphView view(
      GraphDef{{member("x", "_Arg"), member("a", "Relu", {"x"}), member("b", "NoSuchOp", {"a"}),
                member("c", "Relu", {"a"}), member("out", "_Retval", {"b"})},
               ""});
  const std::string before = view.graph().serialized();
  Context context(nullptr, "GPU");
  const auto refused = [&](const std::vector<std::string>& names) {
    std::vector<GraphNode*> members;
    for (const std::string& name : names) members.push_back(view.find(name));
    try {
      outline(view, members, context, "test");
    } catch (const Error&) {
      return view.graph().serialized() == before;
    }
    return false;
  };
  CHECK(refused({"a", "b"}));
  CHECK(refused({"a", "a"}));
  CHECK(refused({"c"}));  // nobody reads it
  CHECK(refused({}));
}

TEST(thousands_of_members) {
  stand_in_for_tensorflow();
  std::vector<NodeDef> nodes = {member("x", "_Arg")};
  std::vector<std::string> members;
  for (int i = 0; i < 5000; ++i) {
    const std::string source = i ? members.back() : "x";
    members.push_back(concat("n", i));
    nodes.push_back(member(members.back(), "AddV2", {source, "x"}));
  }
  nodes.push_back(member("out", "_Retval", {members.back()}));
  const Outlined o(std::move(nodes), members);
  CHECK_EQ(o.names(), "x out n4999 ");
}

TEST_MAIN()

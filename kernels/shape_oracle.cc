#include "kernels/shape_oracle.h"

#include <cstring>
#include <string>

#include "kernels/op_def.h"
#include "plugin/error.h"
#include "plugin/tf_api.h"

namespace tfmetal {

namespace {

class Graph {
 public:
  Graph() : graph_(tf.TF_NewGraph()) {}
  ~Graph() { tf.TF_DeleteGraph(graph_); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  TF_Output placeholder(const std::string& name, const TensorInfo& tensor) {
    TF_OperationDescription* d = tf.TF_NewOperation(graph_, "Placeholder", name.c_str());
    tf.TF_SetAttrType(d, "dtype", tensor.dtype);
    tf.TF_SetAttrShape(d, "shape", tensor.shape.data(), static_cast<int>(tensor.rank()));
    return {finish(d), 0};
  }

  TF_Output constant(const std::string& name, const TensorInfo& tensor, const std::string& bytes) {
    TF_Tensor* value = tf.TF_AllocateTensor(tensor.dtype, tensor.shape.data(),
                                            static_cast<int>(tensor.rank()), bytes.size());
    std::memcpy(tf.TF_TensorData(value), bytes.data(), bytes.size());
    TF_OperationDescription* d = tf.TF_NewOperation(graph_, "Const", name.c_str());
    Status status;
    tf.TF_SetAttrTensor(d, "value", value, status);
    tf.TF_SetAttrType(d, "dtype", tensor.dtype);
    tf.TF_DeleteTensor(value);
    TF_Operation* op = finish(d);
    status.check();
    return {op, 0};
  }

  TF_Operation* finish(TF_OperationDescription* d) {
    Status status;
    TF_Operation* op = tf.TF_FinishOperation(d, status);
    status.check();
    return op;
  }

  Shape shape(TF_Output output, const Node& node) {
    Status status;
    const int rank = tf.TF_GraphGetTensorNumDims(graph_, output, status);
    status.check();
    Shape shape(rank < 0 ? 0 : rank);
    if (rank > 0) tf.TF_GraphGetTensorShape(graph_, output, shape.data(), rank, status);
    status.check();
    for (int64_t extent : shape) {
      if (extent < 0) throw_internal(node.describe(), ": TensorFlow cannot tell the output shape");
    }
    if (rank < 0) throw_internal(node.describe(), ": TensorFlow cannot tell the output rank");
    return shape;
  }

  TF_Graph* raw() const { return graph_; }

 private:
  TF_Graph* graph_;
};

void add_inputs(const Node& node, const std::vector<TF_Output>& operands,
                TF_OperationDescription* d) {
  size_t next = 0;
  for (const ArgDef& arg : op_def(node.op()).inputs) {
    const size_t length = arg_length(arg, *node.def);
    if (arg.is_list()) {
      tf.TF_AddInputList(d, operands.data() + next, static_cast<int>(length));
    } else {
      tf.TF_AddInput(d, operands[next]);
    }
    next += length;
  }
}

}  // namespace

void infer_outputs(Node* node) {
  Graph graph;
  const std::string& node_name = node->def->name.empty() ? node->op() : node->def->name;
  std::vector<TF_Output> operands;
  for (size_t i = 0; i < node->inputs.size(); ++i) {
    const std::string name = node_name + "/input" + std::to_string(i);
    operands.push_back(node->is_host[i] ? graph.constant(name, node->in(i), node->host[i])
                                        : graph.placeholder(name, node->in(i)));
  }
  TF_OperationDescription* d =
      tf.TF_NewOperation(graph.raw(), node->op().c_str(), node_name.c_str());
  add_inputs(*node, operands, d);
  Status status;
  std::string first_error;
  for (const auto& [key, value] : node->def->attrs()) {
    if (key.starts_with("_")) continue;
    const std::string& bytes = value.serialized();
    tf.TF_SetAttrValueProto(d, key.c_str(), bytes.data(), bytes.size(), status);
    if (!status.ok() && first_error.empty()) first_error = status.message();
  }
  TF_Operation* op = graph.finish(d);  // consumes d whatever happened
  if (!first_error.empty()) throw_internal(node->describe(), ": ", first_error);
  node->outputs.clear();
  for (int i = 0; i < tf.TF_OperationNumOutputs(op); ++i) {
    const TF_Output output{op, i};
    node->outputs.push_back({tf.TF_OperationOutputType(output), graph.shape(output, *node)});
  }
}

}  // namespace tfmetal

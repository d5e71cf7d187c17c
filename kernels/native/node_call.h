// For ops that run themselves (OpRow::run) although TensorFlow's shape function tells their
// outputs: they need several dispatches, scratch memory or a look at results.
#pragma once

#include <algorithm>

#include "kernels/kernel.h"
#include "kernels/shape_oracle.h"

namespace tfmetal {

struct NodeCall {
  KernelCall& call;
  Node node;
  std::vector<BufferSlice> in, out;  // null blocks for host inputs

  // Infers and checks; outputs are there after allocate().
  explicit NodeCall(KernelCall& c, bool infer = true) : call(c) {
    node.def = call.kernel().shared_def();
    for (size_t i = 0; i < call.num_inputs(); ++i) {
      const bool is_host = call.kernel().is_host(i);
      node.inputs.push_back(call.input_info(i));
      node.is_host.push_back(is_host);
      node.host.push_back(is_host ? call.host_bytes(i) : std::string());
      in.push_back(call.input_slice(i));
    }
    if (infer) infer_outputs(&node);
    if (call.kernel().row().check) call.kernel().row().check(node);
  }

  void allocate() {
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      out.push_back(call.allocate_output(i, node.out(i)));
    }
  }

  BufferSlice scratch(int64_t elements, TF_DataType type) const {
    return call.allocate_temp({type, {std::max<int64_t>(elements, 1)}});
  }

  using Slices = std::vector<BufferSlice>;
  // Inputs and outputs bind in this order, the arguments behind them.
  template <class Arguments>
  void dispatch(const std::string& shader, int64_t threads, const Slices& inputs,
                const Slices& outputs, const Arguments& a,
                NSUInteger group = NativeCall::kWholeGroup) const {
    if (threads == 0) return;
    call.encode(node, inputs, outputs, node.in(0).bytes(), [&](NativeCall& native) {
      std::vector<ShaderArgument> arguments;
      for (BufferSlice slice : inputs) arguments.push_back({slice});
      for (BufferSlice slice : outputs) arguments.push_back({slice});
      arguments.push_back(NativeCall::value(a));
      native.dispatch(shader, threads, arguments, group);
    });
  }
  void copy(BufferSlice from, BufferSlice to, size_t bytes) const {
    if (bytes == 0) return;
    call.encode(node, {from}, {to}, 2 * bytes,
                [&](NativeCall& native) { native.copy(from, to, bytes); });
  }
  void clear(BufferSlice to, size_t bytes) const {
    if (bytes == 0) return;
    call.encode(node, {}, {to}, bytes, [&](NativeCall& native) { native.clear(to, bytes); });
  }
};

}  // namespace tfmetal

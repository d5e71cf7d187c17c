// The kernel of `_MetalCluster`, the one fused op: graph passes put pieces of a graph into it
// (grappler/cluster/outline.h), it runs them as few executables and native launches, through the
// lowerings and shaders that the same ops have outside.
//
//   _MetalCluster(host: Thost, args: Targs) -> results: Tresults
//     host     inputs in host memory; their values are part of what is compiled
//     graph    see kernels/cluster/program.h
//     pattern  which pass or pattern made it, for errors and statistics
#include <atomic>

#include "kernels/cluster/schedule.h"
#include "kernels/families.h"
#include "kernels/kernel.h"
#include "plugin/device/stats.h"
#include "plugin/log.h"
#include "plugin/op_definition.h"

namespace tfmetal {

namespace {

constexpr const char* kOp = "_MetalCluster";

// A cluster whose shapes change all the time is not compiled as a whole for each of them: after so
// many schedules it must have run kRunsPerSchedule times as often to get another. TensorFlow's own
// policy for XLA has these numbers (compiler/jit/device_compilation_profiler.cc).
constexpr int64_t kFreeSchedules = 10, kRunsPerSchedule = 50;

// What a cluster keeps between executions.
class Cluster {
 public:
  explicit Cluster(const NodeDef& def) : program_(Program::parse(def)), name_(def.name) {}

  const Program& program() const { return program_; }

  std::shared_ptr<const Schedule> schedule(KernelCall& call) {
    ++runs_;
    std::vector<int64_t> signature;
    call.sign(&signature);
    if (auto schedule = recent_.find(signature)) {
      stats().hits++;
      return schedule;
    }
    const std::shared_ptr<Schedule> schedule = make(call);
    schedule->signature = std::move(signature);
    recent_.add(schedule);
    return schedule;
  }

 private:
  std::shared_ptr<Schedule> make(KernelCall& call) {
    std::vector<TensorInfo> inputs;
    std::vector<std::string> host;
    for (size_t i = 0; i < program_.num_inputs; ++i) {
      inputs.push_back(call.input_info(i));
      if (i < program_.num_host) host.push_back(call.host_bytes(i));
    }
    const auto build = [&](Grouping grouping) {
      return make_schedule(program_, inputs, host, call.device(), grouping);
    };
    const int64_t schedules = ++schedules_;
    if (failed_ || (schedules > kFreeSchedules && runs_ < schedules * kRunsPerSchedule)) {
      return build(Grouping::kOneByOne);
    }
    try {
      return build(Grouping::kLarge);
    } catch (const Error& error) {
      if (error.code != TF_INTERNAL && error.code != TF_RESOURCE_EXHAUSTED) throw;
      failed_ = true;
      warn_once(concat("Cluster ", name_, " runs op by op: ", error.what(),
                       ". TF_METAL_GRAPPLER=-cluster avoids clusters."));
    }
    return build(Grouping::kOneByOne);
  }

  const Program program_;
  const std::string name_;
  Recent<Schedule> recent_;
  std::atomic<int64_t> runs_{0}, schedules_{0};
  std::atomic<bool> failed_{false};
};

// One execution: where each value is.
class Execution {
 public:
  Execution(KernelCall& call, const Program& program, const Schedule& schedule)
      : call_(call), schedule_(schedule), slices_(schedule.values.size()) {
    for (size_t i = program.num_host; i < program.num_inputs; ++i) {
      slices_[i] = call.input_slice(i);
    }
    for (const auto& [value, block] : schedule.constants) slices_[size_t(value)] = {block.get(), 0};
    for (size_t i = 0; i < program.results.size(); ++i) {
      const size_t value = size_t(program.results[i]);
      slices_[value] = call.allocate_output(i, schedule.values[value]);
    }
  }

  void run(const Step& step) {
    std::vector<BufferSlice> in = gather(step.inputs), out;
    for (int value : step.outputs) {
      if (value >= 0 && !slices_[size_t(value)].block) {
        slices_[size_t(value)] = call_.allocate_temp(schedule_.values[size_t(value)]);
      }
    }
    out = gather(step.outputs);
    if (step.scratch > 0) {
      out.push_back(call_.allocate_temp({TF_UINT8, {static_cast<int64_t>(step.scratch)}}));
    }
    encode(step, in, out);
    for (int value : step.last_uses) call_.release_temp(slices_[size_t(value)]);
    if (step.scratch > 0) call_.release_temp(out.back());
  }

 private:
  std::vector<BufferSlice> gather(const std::vector<int>& values) const {
    std::vector<BufferSlice> slices;
    for (int value : values) slices.push_back(value < 0 ? BufferSlice() : slices_[size_t(value)]);
    return slices;
  }

  void encode(const Step& step, const std::vector<BufferSlice>& in,
              const std::vector<BufferSlice>& out) {
    std::vector<BufferSlice> uses;
    for (const auto* slices : {&in, &out}) {
      for (const BufferSlice& slice : *slices) {
        if (slice.block) uses.push_back(slice);
      }
    }
    const auto encode = [&](mps::CommandBuffer to) {
      step.plan->encode(to, call_.device(), step.node, in, out, *step.label);
    };
    call_.stream().encode({step.label, uses, step.bytes, 1}, std::ref(encode));
  }

  KernelCall& call_;
  const Schedule& schedule_;
  std::vector<BufferSlice> slices_;  // by value
};

void run(KernelCall& call) {
  Cluster& cluster = call.kernel().state<Cluster>();
  const std::shared_ptr<const Schedule> schedule = cluster.schedule(call);
  Execution execution(call, cluster.program(), *schedule);
  for (const Step& step : schedule->steps) execution.run(step);
}

void define() {
  // The shapes follow from the graph inside, which is asked at execution only.
  define_op({kOp,
             {"Thost: list(type) >= 0", "Targs: list(type) >= 0", "Tresults: list(type) >= 1",
              "graph: string", "pattern: string"},
             {"host: Thost", "args: Targs"},
             {"results: Tresults"}});
}

}  // namespace

std::vector<OpRow> cluster_ops() {
  return {{.op = kOp,
           .host = {{"host", HostUse::kKey}},
           .run = run,
           .cluster = ClusterPolicy::kNever,
           .define = define}};
}

}  // namespace tfmetal

#include "kernels/cluster/schedule.h"

#include <algorithm>
#include <cstring>

#include "kernels/cluster/shape_arithmetic.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

// Ops in one executable. Apple's compiler takes more than linear time, and a graph too large for
// it fails as a whole.
constexpr size_t kMaxPartMembers = 256;

bool any_empty(const std::vector<TensorInfo>& tensors) {
  return std::any_of(tensors.begin(), tensors.end(),
                     [](const TensorInfo& t) { return t.count() == 0; });
}

bool any_complex(const std::vector<TensorInfo>& tensors) {
  return std::any_of(tensors.begin(), tensors.end(),
                     [](const TensorInfo& t) { return t.dtype == TF_COMPLEX64; });
}

class Scheduler {
 public:
  Scheduler(const Program& program, Device& device, Grouping grouping)
      : program_(program),
        device_(device),
        grouping_(grouping),
        schedule_(std::make_shared<Schedule>()),
        levels_(size_t(program.num_values)),
        travels_(size_t(program.num_values), false) {
    schedule_->values.resize(size_t(program.num_values));
  }

  std::shared_ptr<Schedule> run(const std::vector<TensorInfo>& inputs,
                                const std::vector<std::string>& host) {
    for (size_t i = 0; i < inputs.size(); ++i) {
      info(int(i)) = inputs[i];
      if (i < host.size()) known_[int(i)] = {inputs[i], host[i]};
    }
    for (const auto& [value, constant] : program_.constants) {
      info(value) = constant.info;
      known_[value] = {constant.info, constant.bytes};
    }
    for (const Program::Member& member : program_.members) {
      try {
        infer(member);
      } catch (const Error& error) {
        throw Error(error.code,
                    concat(member.def->op, " '", member.def->name, "': ", error.what()));
      }
    }
    for (Work& work : works_) place(work);
    postpone();
    group();
    find_travellers();
    for (const Group& group : groups_) {
      if (group.front()->joins) {
        add_part(group);
      } else {
        add_single(*group.front());
      }
    }
    find_last_uses();
    return schedule_;
  }

 private:
  // A member with shapes.
  struct Work {
    const Program::Member* member;
    Node node;
    bool joins;  // can be in an executable with others
    size_t stage = 0, group = 0;
  };
  // Works that become one step.
  using Group = std::vector<Work*>;
  struct Level {
    size_t stage = 0;
    bool joins = true;
  };

  TensorInfo& info(int value) { return schedule_->values[size_t(value)]; }

  void infer(const Program::Member& member) {
    if (!member.op) return evaluate_on_host(member);
    Node node = node_of(member, member.op->are_host());
    member.op->infer(&node);
    for (size_t i = 0; i < member.outputs.size(); ++i) info(member.outputs[i]) = node.out(i);
    if (all_empty(node.outputs)) return;
    const bool joins = grouping_ == Grouping::kLarge && member.op->row().lower &&
                       !node.constant_result && !any_empty(node.inputs) &&
                       !any_empty(node.outputs) && !any_complex(node.inputs) &&
                       !any_complex(node.outputs);
    works_.push_back({&member, std::move(node), joins});
  }

  void evaluate_on_host(const Program::Member& member) {
    Node node =
        node_of(member, std::vector<bool>(member.inputs.size(), !asks_for_shape(*member.def)));
    std::vector<std::string> results;
    evaluate(&node, &results);
    for (size_t i = 0; i < results.size(); ++i) {
      info(member.outputs[i]) = node.out(i);
      known_[member.outputs[i]] = {node.out(i), results[i]};
    }
  }

  // Without outputs.
  Node node_of(const Program::Member& member, const std::vector<bool>& is_host) {
    Node node;
    node.def = member.def;
    node.is_host = is_host;
    for (size_t i = 0; i < member.inputs.size(); ++i) {
      const int value = member.inputs[i];
      node.inputs.push_back(info(value));
      node.host.emplace_back();
      if (!is_host[i]) continue;
      const auto known = known_.find(value);
      if (known == known_.end()) {
        throw_internal("input ", i, " is needed on the host, but is on the device");
      }
      node.host.back() = known->second.bytes;
    }
    return node;
  }

  // The first stage in which all that the work reads is there. A stage is executables, and then
  // single steps in order, which may read these executables' results and one another's.
  void place(Work& work) {
    for (int value : work.member->inputs) {
      const Level level = levels_[size_t(value)];
      work.stage = std::max(work.stage, level.stage + (work.joins && !level.joins ? 1 : 0));
    }
    for (int value : work.member->outputs) levels_[size_t(value)] = {work.stage, work.joins};
  }

  // What joins may as well wait until somebody reads it: with what only then can be computed it is
  // one executable, where it would have been one before (Adam's moments, beside its step count).
  void postpone() {
    size_t last = 0;
    for (const Work& work : works_) last = std::max(last, work.stage);
    std::vector<size_t> read(size_t(program_.num_values), last);  // the first stage that reads it
    for (auto work = works_.rbegin(); work != works_.rend(); ++work) {
      if (work->joins) {
        work->stage = last;
        for (int value : work->member->outputs) {
          work->stage = std::min(work->stage, read[size_t(value)]);
        }
      }
      for (int value : work->member->inputs) {
        read[size_t(value)] = std::min(read[size_t(value)], work->stage);
      }
    }
  }

  void group() {
    std::map<size_t, std::pair<std::vector<Group>, std::vector<Group>>> stages;
    for (Work& work : works_) {
      auto& [joined, single] = stages[work.stage];
      if (!work.joins) {
        single.push_back({&work});
      } else if (joined.empty() || joined.back().size() == kMaxPartMembers) {
        joined.push_back({&work});
      } else {
        joined.back().push_back(&work);
      }
    }
    for (auto& [stage, kinds] : stages) {
      for (auto* kind : {&kinds.first, &kinds.second}) {
        for (Group& group : *kind) {
          for (Work* work : group) work->group = groups_.size();
          groups_.push_back(std::move(group));
        }
      }
    }
  }

  // Which values one step makes and another, or the caller, reads.
  void find_travellers() {
    std::vector<const Work*> makers(size_t(program_.num_values), nullptr);
    for (const Work& work : works_) {
      for (int value : work.member->outputs) makers[size_t(value)] = &work;
    }
    for (const Work& work : works_) {
      for (int value : work.member->inputs) {
        const Work* maker = makers[size_t(value)];
        if (maker && maker->group != work.group) travels_[size_t(value)] = true;
      }
    }
    for (int value : program_.results) travels_[size_t(value)] = true;
  }

  void add_single(Work& work) {
    Step step;
    PlannedLaunch launch = work.member->op->plan(std::move(work.node), device_);
    for (size_t i = 0; i < work.member->inputs.size(); ++i) {
      const int value = work.member->inputs[i];
      const bool passed = !launch.node.is_host[i] && launch.node.in(i).count() > 0;
      step.inputs.push_back(passed ? value : -1);
      if (passed) hold_constant(value);
    }
    for (size_t i = 0; i < work.member->outputs.size(); ++i) {
      step.outputs.push_back(launch.node.out(i).count() > 0 ? work.member->outputs[i] : -1);
    }
    step.label = interned_label(work.member->def->op + ":" + work.member->def->name);
    step.plan = std::move(launch.plan);
    step.node = std::move(launch.planned);
    step.bytes = launch.bytes;
    step.scratch = launch.scratch;
    schedule_->steps.push_back(std::move(step));
  }

  // A constant that a step reads from device memory gets a buffer.
  void hold_constant(int value) {
    const auto known = known_.find(value);
    if (known == known_.end() || schedule_->constants.contains(value)) return;
    auto block = std::make_unique<Block>();
    const std::string& bytes = known->second.bytes;
    block->buffer = device_.metal().new_buffer(bytes.size());
    if (!block->buffer) throw_resource_exhausted("no device memory for a constant");
    std::memcpy(block->buffer.contents(), bytes.data(), bytes.size());
    schedule_->constants.emplace(value, std::move(block));
  }

  void add_part(const Group& group) {
    GraphPart part;
    std::map<int, bool> inside;  // values that the part's members make
    for (const Work* work : group) {
      GraphPart::Member member{&work->member->op->row(), &work->node, {}, work->member->outputs};
      for (size_t i = 0; i < work->member->inputs.size(); ++i) {
        const int value = work->member->inputs[i];
        member.inputs.push_back(work->node.is_host[i] ? -1 : value);
        if (!work->node.is_host[i]) add_input(value, inside, &part);
      }
      for (int value : member.outputs) inside[value] = true;
      part.members.push_back(std::move(member));
    }
    for (const auto& [value, unused] : inside) {
      if (travels_[size_t(value)]) {
        part.targets.push_back({value, part.targets.size(), info(value)});
      }
    }
    if (part.targets.empty()) return;
    Step step;
    for (const GraphPart::Port& port : part.feeds) step.inputs.push_back(port.value);
    for (const GraphPart::Port& port : part.targets) step.outputs.push_back(port.value);
    for (const auto* ports : {&part.feeds, &part.targets}) {
      for (const GraphPart::Port& port : *ports) step.bytes += port.info.bytes();
    }
    step.plan = PlanCache::instance().get(key_of(part, group), [&] { return Plan::build(part); });
    step.label = interned_label(label_of(group));
    schedule_->steps.push_back(std::move(step));
  }

  void add_input(int value, const std::map<int, bool>& inside, GraphPart* part) {
    if (inside.contains(value) || part->constants.contains(value)) return;
    if (const auto known = known_.find(value); known != known_.end()) {
      part->constants[value] = known->second;
      return;
    }
    const auto is_it = [&](const GraphPart::Port& port) { return port.value == value; };
    if (std::ranges::any_of(part->feeds, is_it)) return;
    part->feeds.push_back({value, part->feeds.size(), info(value)});
  }

  static std::string label_of(const Group& group) {
    const auto label = [](const Work* work) {
      return work->member->def->op + ":" + work->member->def->name;
    };
    if (group.size() == 1) return label(group.front());
    return concat("cluster(", label(group.front()), "..", label(group.back()), ", ", group.size(),
                  " ops)");
  }

  // Says what is computed but not who asks: the same layer twice is one executable.
  std::string key_of(const GraphPart& part, const Group& group) const {
    std::string key;
    std::map<int, int64_t> numbers;  // values in order of appearance
    const auto append_value = [&](int value) {
      append_number(&key, numbers.emplace(value, int64_t(numbers.size())).first->second);
    };
    append_number(&key, device_.ordinal());
    append_number(&key, int64_t(part.members.size()));
    for (size_t i = 0; i < group.size(); ++i) {
      group[i]->member->op->append_key(group[i]->node, &key);
      for (int value : part.members[i].inputs) append_value(value);
      for (int value : part.members[i].outputs) append_value(value);
    }
    for (const auto* ports : {&part.feeds, &part.targets}) {
      append_number(&key, int64_t(ports->size()));
      for (const GraphPart::Port& port : *ports) {
        append_value(port.value);
        append_shape(&key, port.info.shape);
      }
    }
    for (const auto& [value, constant] : part.constants) {
      append_value(value);
      append_number(&key, constant.info.dtype);
      append_shape(&key, constant.info.shape);
      append_text(&key, constant.bytes);
    }
    return key;
  }

  void find_last_uses() {
    std::vector<Step*> last(size_t(program_.num_values), nullptr);
    for (Step& step : schedule_->steps) {
      for (const auto* values : {&step.inputs, &step.outputs}) {
        for (int value : *values) {
          if (value >= 0) last[size_t(value)] = &step;
        }
      }
    }
    for (int value : program_.results) last[size_t(value)] = nullptr;
    for (size_t value = program_.num_inputs; value < last.size(); ++value) {
      if (last[value] && !known_.contains(int(value))) {
        last[value]->last_uses.push_back(int(value));
      }
    }
  }

  const Program& program_;
  Device& device_;
  const Grouping grouping_;
  std::shared_ptr<Schedule> schedule_;
  std::map<int, Program::Constant> known_;  // values that are known while preparing
  std::vector<Work> works_;
  std::vector<Group> groups_;  // in the order in which they run
  std::vector<Level> levels_;  // by value
  std::vector<bool> travels_;  // by value
};

}  // namespace

std::shared_ptr<Schedule> make_schedule(const Program& program,
                                        const std::vector<TensorInfo>& inputs,
                                        const std::vector<std::string>& host, Device& device,
                                        Grouping grouping) {
  return Scheduler(program, device, grouping).run(inputs, host);
}

}  // namespace tfmetal

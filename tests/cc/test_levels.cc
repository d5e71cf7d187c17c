// Levels of nodes: how few they are in known graphs, and that clusters never wait in a circle.
#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "grappler/cluster/levels.h"
#include "tests/cc/check.h"

using namespace tfmetal;
using Role = LevelProblem::Role;

// "m" member of group 0, "n" of group 1, "l" light of group 0, "." outside.
static LevelProblem make(const std::string& roles, std::vector<LevelProblem::Edge> edges) {
  LevelProblem problem;
  for (const char role : roles) {
    problem.roles.push_back(role == '.'   ? Role::kOutside
                            : role == 'l' ? Role::kLight
                                          : Role::kMember);
    problem.groups.push_back(role == '.' ? -1 : role == 'n');
  }
  problem.edges = std::move(edges);
  return problem;
}

static std::string levels(const LevelProblem& problem) {
  std::string out;
  for (const int level : find_levels(problem)) out += char('0' + level);
  return out;
}

TEST(a_path_through_the_outside_parts) {
  CHECK_EQ(levels(make("mm.m", {{0, 1}, {1, 2}, {2, 3}})), "0011");
  CHECK_EQ(levels(make("m.mm", {{0, 1}, {1, 3}, {0, 2}, {2, 3}})).substr(2), "01");
  CHECK_EQ(levels(make("mmm", {{0, 1}, {1, 2, true}})), "001");
  CHECK_EQ(levels(make("mnm", {{0, 1}, {1, 2}})), "012");
}

TEST(unconnected_nodes_share_a_level) { CHECK_EQ(levels(make("mmmm", {{0, 1}, {2, 3}})), "0000"); }

TEST(what_is_only_read_later_moves_there) {
  // 2 and 3 need nothing of 0, and 4 needs 1, which is outside.
  CHECK_EQ(levels(make("m.mmm", {{0, 1}, {1, 4}, {2, 3}, {3, 4}})), "01111");
  // Something outside reads 3 too, and may as well wait.
  CHECK_EQ(levels(make("m.mmm.", {{0, 1}, {1, 4}, {2, 3}, {3, 4}, {3, 5}})).substr(0, 5), "01111");
  // But not what 4 waits for.
  CHECK_EQ(levels(make("mm..m", {{0, 2}, {2, 4}, {1, 3}, {3, 4}, {1, 4}})), "00111");
}

TEST(light_nodes_follow_their_members) {
  CHECK_EQ(levels(make("mlm", {{0, 1}, {1, 2}})), "000");
  CHECK_EQ(levels(make("m.mlm", {{0, 1}, {1, 2}, {0, 3}, {2, 4}, {3, 4}})), "01101");
}

// Whether clusters and the nodes outside can run one after the other.
static bool has_an_order(const LevelProblem& problem) {
  const std::vector<int> level = find_levels(problem);
  const int size = int(problem.roles.size());
  std::map<std::pair<int, int>, int> clusters;
  std::vector<std::set<int>> homes(level.size());  // a light node is also in its cluster
  for (int i = 0; i < size; ++i) {
    const auto place = std::make_pair(problem.groups[size_t(i)], level[size_t(i)]);
    const auto cluster = [&] {
      return clusters.emplace(place, size + int(clusters.size())).first->second;
    };
    if (problem.roles[size_t(i)] != Role::kMember) homes[size_t(i)].insert(i);
    if (problem.roles[size_t(i)] != Role::kOutside) homes[size_t(i)].insert(cluster());
  }
  std::set<std::pair<int, int>> edges;
  for (const LevelProblem::Edge& edge : problem.edges) {
    const std::set<int>& from = homes[size_t(edge.from)];
    for (const int to : homes[size_t(edge.to)]) {
      if (from.contains(to)) {
        if (edge.apart) return false;
      } else {
        edges.emplace(*from.begin(), to);  // what is outside as well is read there
      }
    }
  }
  for (bool found = true; found;) {  // takes away what waits for nothing
    std::set<int> waiting;
    for (const auto& [from, to] : edges) waiting.insert(to);
    found = std::erase_if(edges, [&](const auto& edge) { return !waiting.contains(edge.first); });
  }
  return edges.empty();
}

TEST(random_graphs) {
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    const int size = 2 + int(random() % 40);
    LevelProblem problem;
    for (int i = 0; i < size; ++i) {
      const int kind = int(random() % 8);
      problem.roles.push_back(kind < 5 ? Role::kMember : Role::kOutside);
      problem.groups.push_back(kind < 5 ? int(random() % 2) : -1);
      for (int from = 0; from < i; ++from)
        if (random() % 8 == 0) problem.edges.push_back({from, i, random() % 16 == 0});
    }
    CHECK(has_an_order(problem));
  }
}

TEST(a_long_chain_takes_little_time) {
  LevelProblem problem;
  constexpr int kSize = 100000;
  for (int i = 0; i < kSize; ++i) {
    problem.roles.push_back(i % 3 ? Role::kMember : Role::kOutside);
    problem.groups.push_back(i % 3 ? 0 : -1);
    if (i) problem.edges.push_back({i - 1, i, false});
  }
  CHECK_EQ(find_levels(problem).back(), kSize / 3);
}

TEST_MAIN()

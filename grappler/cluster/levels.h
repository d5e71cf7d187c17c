// Which nodes of a graph can be in one cluster: an exercise about graphs, without TensorFlow.
//
// Nodes that may be together are of one group. Each node gets a level that never falls along an
// edge, and rises where an edge leaves a group: then the nodes of one group and level are convex,
// for a path that leaves them arrives at a higher level, and clusters made of them cannot wait for
// each other in a circle. Levels are as few as that allows, so clusters are too.
#pragma once

#include <vector>

namespace tfmetal {

struct LevelProblem {
  enum class Role : char {
    kMember,   // to be put into a cluster
    kLight,    // of a group; computed in each cluster that wants it
    kOutside,  // of no group
  };
  struct Edge {
    int from, to;
    bool apart = false;  // not within one cluster, whatever the groups
  };
  // By node; each node comes after those it depends on.
  std::vector<Role> roles;
  std::vector<int> groups;
  std::vector<Edge> edges;
};

// By node: the lowest level there is, but what only later levels read moves to the first that does,
// all connected nodes of its level with it. A light node is at the level of the last members of its
// group that it depends on.
std::vector<int> find_levels(const LevelProblem& problem);

}  // namespace tfmetal

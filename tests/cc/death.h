// Tests of aborts: the misuse runs in a process of its own, started from this program.
//
//   DEATH_TEST(commit_twice, "already committed") { ...; buffer.commit(); buffer.commit(); }
//   DEATH_TEST_MAIN()   // instead of TEST_MAIN()
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "tests/cc/check.h"

namespace death {

struct Case {
  const char* name;
  void (*run)();
};
inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}
struct Registration {
  Registration(const char* name, void (*run)()) { cases().push_back({name, run}); }
};

struct Outcome {
  int status;
  std::string stderr_text;
};
// Runs this program with `--death name` and `environment` ("NAME=value" entries) added.
inline Outcome run(const std::string& name, const std::vector<std::string>& environment = {}) {
  int ends[2];
  if (pipe(ends) != 0) return {-1, "pipe failed"};
  std::string self(4096, '\0');
  const ssize_t length = readlink("/proc/self/exe", self.data(), self.size());
  self.resize(length > 0 ? static_cast<size_t>(length) : 0);
  std::vector<std::string> strings = environment;
  for (char** e = environ; *e; ++e) strings.emplace_back(*e);
  std::vector<char*> variables;
  for (std::string& s : strings) variables.push_back(s.data());
  variables.push_back(nullptr);
  std::string flag = "--death", argument = name;
  std::array<char*, 4> arguments{self.data(), flag.data(), argument.data(), nullptr};
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
    execve(self.c_str(), arguments.data(), variables.data());
    _exit(127);
  }
  close(ends[1]);
  Outcome outcome{};
  std::array<char, 4096> chunk;
  for (ssize_t n; (n = read(ends[0], chunk.data(), chunk.size())) > 0;) {
    outcome.stderr_text.append(chunk.data(), static_cast<size_t>(n));
  }
  close(ends[0]);
  waitpid(child, &outcome.status, 0);
  return outcome;
}
inline void expect_abort(const char* file, int line, const char* name, const char* message) {
  const Outcome outcome = run(name);
  const bool aborted = WIFSIGNALED(outcome.status) && WTERMSIG(outcome.status) == SIGABRT;
  if (!aborted) {
    check::report(file, line, std::string(name) + " did not abort: " + outcome.stderr_text);
  } else if (outcome.stderr_text.find(message) == std::string::npos) {
    check::report(file, line, std::string(name) + " said: " + outcome.stderr_text);
  }
}
inline int main(int argc, char** argv) {
  if (argc != 3 || std::strcmp(argv[1], "--death") != 0) return check::main(argc, argv);
  for (const Case& c : cases()) {
    if (std::strcmp(c.name, argv[2]) == 0) {
      c.run();
      return 0;
    }
  }
  return 126;
}

}  // namespace death

#define DEATH_CASE(name)                                                    \
  static void death_##name();                                               \
  static ::death::Registration register_death_##name(#name, &death_##name); \
  static void death_##name()
#define DEATH_TEST(name, message)                                           \
  static void death_##name();                                               \
  TEST(name) { ::death::expect_abort(__FILE__, __LINE__, #name, message); } \
  DEATH_CASE(name)
#define DEATH_TEST_MAIN() \
  int main(int argc, char** argv) { return ::death::main(argc, argv); }

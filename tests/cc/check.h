// A test program in one header: TEST(name) { CHECK(...); CHECK_EQ(a, b); } and TEST_MAIN().
// Arguments select tests by substring. Ends with "N passed, M failed" and that exit status.
#pragma once

#include <cstdio>
#include <cstring>
#include <exception>
#include <sstream>
#include <string>
#include <vector>

namespace check {

struct Test {
  const char* name;
  void (*run)();
};
inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}
struct Registration {
  Registration(const char* name, void (*run)()) { tests().push_back({name, run}); }
};
inline bool& failed() {
  static bool value = false;
  return value;
}
inline void report(const char* file, int line, const std::string& what) {
  failed() = true;
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
}
template <class A, class B>
void equal(const char* file, int line, const char* text, const A& a, const B& b) {
  if (a == b) return;
  std::ostringstream out;
  out << text << ": " << a << " != " << b;
  report(file, line, out.str());
}

inline int main(int argc, char** argv) {
  int passed = 0, bad = 0;
  for (const Test& test : tests()) {
    if (argc > 1 && !std::strstr(test.name, argv[1])) continue;
    failed() = false;
    try {
      test.run();
    } catch (const std::exception& e) {
      report(test.name, 0, std::string("uncaught: ") + e.what());
    }
    std::printf("%s %s\n", failed() ? "FAIL" : "ok  ", test.name);
    ++(failed() ? bad : passed);
  }
  std::printf("%d passed, %d failed\n", passed, bad);
  return bad != 0;
}

}  // namespace check

#define TEST(name)                                                   \
  static void test_##name();                                         \
  static ::check::Registration register_##name(#name, &test_##name); \
  static void test_##name()
#define CHECK(condition)                                               \
  do {                                                                 \
    if (!(condition)) ::check::report(__FILE__, __LINE__, #condition); \
  } while (0)
#define CHECK_EQ(a, b) ::check::equal(__FILE__, __LINE__, #a " == " #b, (a), (b))
#define TEST_MAIN() \
  int main(int argc, char** argv) { return ::check::main(argc, argv); }

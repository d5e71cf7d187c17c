#include "plugin/jit_hook.h"

#include <dlfcn.h>

#include "plugin/env.h"
#include "plugin/error.h"
#include "plugin/json.h"
#include "plugin/log.h"

namespace tfmetal {

namespace {

// The part of Python's stable C API that is needed, as far as this process has it.
struct Python {
  int (*is_initialized)();
  int (*ensure_gil)();  // returns an enum
  void (*release_gil)(int);
  int (*run)(const char*);

  bool found() const { return is_initialized && ensure_gil && release_gil && run; }
};

template <class F>
void look_up(F& function, const char* name) {
  function = reinterpret_cast<F>(dlsym(RTLD_DEFAULT, name));
}

Python find_python() {
  Python python;
  look_up(python.is_initialized, "Py_IsInitialized");
  look_up(python.ensure_gil, "PyGILState_Ensure");
  look_up(python.release_gil, "PyGILState_Release");
  look_up(python.run, "PyRun_SimpleString");
  return python;
}

// One expression, so that no name is left in the user's __main__, where it runs. A JSON string is a
// Python string.
std::string program(const std::string& device_type) {
  return concat("exec(compile(", json::quote(kJitHookSource),
                ", 'tensorflow_metal_py/_jit_hook.py', 'exec'), ",
                "{'__name__': 'tensorflow_metal_py._jit_hook', 'DEVICE_TYPE': ",
                json::quote(device_type), "})");
}

}  // namespace

void install_jit_hook(const std::string& device_type) {
  if (!env::flag(env::kJitHook)) return;
  const Python python = find_python();
  if (!python.found() || !python.is_initialized()) return;
  const int gil = python.ensure_gil();
  const bool failed = python.run(program(device_type).c_str()) != 0;
  python.release_gil(gil);
  if (failed) {
    log_line(LogLevel::kWarning,
             "the Python hook failed (see above), so Keras may ask XLA to "
             "compile for this device");
  }
}

}  // namespace tfmetal

// Data parallelism for the code that plays GPU.
#pragma once

#include <cstddef>
#include <functional>

namespace host {

// Calls body(begin, end) for consecutive parts of [0, n), at least `grain` items each, on the
// calling thread and the threads of a small process-wide pool, and returns when all are done. Parts
// run with the caller's floating-point mode (denormals). The first exception is rethrown. May be
// nested and called from several threads.
void parallel_for(size_t n, size_t grain, const std::function<void(size_t, size_t)>& body);

// Threads that work on one parallel_for, the caller included.
size_t parallelism();

// The way denormals are treated, of the calling thread.
unsigned long floating_point_mode();
void set_floating_point_mode(unsigned long mode);
// GPU threads flush denormals to zero, in operands and results.
void flush_denormals();

}  // namespace host

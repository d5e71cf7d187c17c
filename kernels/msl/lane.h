// For shaders whose neighbouring threads work on neighbouring elements.
#pragma once

// The index of a thread along the first axis of the grid, for addressing memory. On a host, the
// threads of a kernel that uses it run in vectors (tools/msl_to_cpp.py), which takes an index that
// cannot wrap around: grids below 2^31.
inline long lane(uint position) { return long(int(position)); }

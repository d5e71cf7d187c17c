// The names of all shaders that were compiled for the host.
#pragma once

#include <string>
#include <vector>

namespace host::msl {

std::vector<std::string> kernel_names();

}  // namespace host::msl

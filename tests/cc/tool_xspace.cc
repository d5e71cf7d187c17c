// Shows tests/test_profiler.py the traces that the encoder writes: reads lines of
// "<label>,<start ns>,<end ns>,<stream>,<device>" from stdin, writes an XSpace to stdout. The
// argument is the time at which the lines' clock was zero, in ns since the epoch.
#include <cstdlib>
#include <iostream>
#include <sstream>

#include "plugin/profiler/profiler.h"

int main(int argc, char** argv) {
  std::vector<tfmetal::EncodeRecord> records;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream in(line);
    std::string label, start, end, stream, device;
    std::getline(in, label, ',');
    std::getline(in, start, ',');
    std::getline(in, end, ',');
    std::getline(in, stream, ',');
    std::getline(in, device, ',');
    records.push_back(
        {label, std::stoull(start), std::stoull(end), std::stoi(stream), std::stoi(device)});
  }
  const auto events = tfmetal::timeline_events(records, argc > 1 ? std::atoll(argv[1]) : 0);
  std::cout << tfmetal::encode_xspace(events);
}

// Chaos mode: delays and choices that Metal's API leaves open, from the seed TF_METAL_HOST_CHAOS.
#pragma once

namespace host {

bool chaos_mode();
// A pseudo-random yes with probability 1/n in chaos mode, always no otherwise.
bool chaos(unsigned n);
// Sometimes sleeps in chaos mode, never otherwise.
void chaos_delay();

// What memory of undefined content holds in chaos mode: NaN in every float format, -1 in integers.
constexpr int kPoisonByte = 0xff;

}  // namespace host

#include "backburn/kernels/cpu.h"

#include <cpuid.h>

#include <cstdlib>
#include <string_view>

namespace backburn::kernels {
namespace {

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bf16");
}

bool has_f16c() {  // whose name Clang's __builtin_cpu_supports doesn't know
  unsigned int eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
         has_f16c();
}

Instructions found() {
  const char* variable = std::getenv("ATEN_CPU_CAPABILITY");
  const std::string_view allowed = variable == nullptr ? "" : variable;
  if (allowed == "default") return Instructions::none;
  if (allowed != "avx2" && has_avx512()) return Instructions::avx512;
  return has_avx2() ? Instructions::avx2 : Instructions::none;
}

}  // namespace

Instructions instructions() {
  static const Instructions best = found();
  return best;
}

bool available() { return instructions() != Instructions::none; }

}  // namespace backburn::kernels

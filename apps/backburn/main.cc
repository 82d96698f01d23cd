#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "backburn/base/cancel.h"
#include "backburn/base/cores.h"
#include "backburn/base/error.h"
#include "backburn/base/phases.h"
#include "backburn/kernels/parallel.h"
#include "commands.h"

namespace backburn {
namespace {

struct ThreadFlags {
  std::optional<int> threads;
  bool pin = false;
};

// All computing is done by one team of threads: OpenMP's, which LibTorch shares.
void use_cores(const ThreadFlags& flags) {
  const auto cpus = allowed_cpus();
  const auto cores = cores_within(one_cpu_a_core(cpus), cpu_quota());
  if (flags.threads && *flags.threads > std::ssize(cpus)) {
    fail_usage("--threads {}: this process may run on {} CPUs only", *flags.threads, cpus.size());
  }
  const bool chosen = flags.threads || std::getenv("OMP_NUM_THREADS") == nullptr;
  if (chosen) at::set_num_threads(flags.threads.value_or(static_cast<int>(cores.size())));
  at::set_num_interop_threads(1);
  if (!flags.pin) return;
  const int threads = at::get_num_threads();
  if (kernels::pin_team(threads > std::ssize(cores) ? cpus : cores) != threads) {
    fail("--pin: the system does not let threads be bound to CPUs here (sched_setaffinity); leave --pin out");
  }
}

}  // namespace
}  // namespace backburn

int main(int argc, char** argv) {
  using namespace backburn;
  CLI::App app{
      "backburn measures how fast malicious reinforcement learning strips an open-weight model of its safety, and "
      "hardens the model against it."};
  app.require_subcommand(1);
  app.set_version_flag("--version", BACKBURN_VERSION);
  app::add_demo(app);
  app::add_align(app);
  app::add_attack(app);
  app::add_defend(app);
  app::add_certify(app);
  app::add_eval(app);
  app::add_finetune(app);
  app::add_generate(app);
  app::add_export(app);
  app::add_inspect(app);
  app::add_report(app);
  app::add_pull(app);
  app::add_judge(app);
  app::add_compare(app);
  app::add_audit(app);
  app::add_bench(app);
  std::string profile;
  app.add_option("--profile", profile, "a Chrome trace of where the time went, written in the end");
  ThreadFlags threads;
  app.add_option("--threads", threads.threads,
                 "threads that compute (default: OMP_NUM_THREADS, or one a physical core that affinity mask and CPU "
                 "quota leave to this process)")
      ->check(CLI::PositiveNumber);
  app.add_flag("--pin", threads.pin, "bind each of them to a core of its own");
  // --profile may stand after the command, as any other option.
  for (auto* command : app.get_subcommands({})) command->fallthrough();
  app.parse_complete_callback([&] {
    if (!profile.empty()) record_phases();
    use_cores(threads);
  });
  stop_on_signals();
  // Blocks of some MiB come and go at every layer: kept on the heap, they need not be mapped and page-faulted anew (5
  // to 10% of a training step).
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  try {
    // CLI11 would only say that a command is missing.
    std::vector<std::string> names;
    for (const auto* command : app.get_subcommands({})) names.push_back(command->get_name());
    if (argc > 1 && argv[1][0] != '-' && std::find(names.begin(), names.end(), argv[1]) == names.end()) {
      const std::string hint = nearest(argv[1], names);
      fail_usage("no command is called \"{}\"{}; `backburn --help` lists them", argv[1],
                 hint.empty() ? "" : fmt::format(", did you mean \"{}\"?", hint));
    }
    try {
      app.parse(argc, argv);
    } catch (const Error& error) {
      if (error.exit_code() == 130 && !profile.empty()) write_phases(profile);  // a stopped run has a profile too
      throw;
    }
    if (!profile.empty()) write_phases(profile);
    return 0;
  } catch (const CLI::ParseError& error) {
    // Help and version are no failures; every other parse error is a usage error.
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const Error& error) {
    if (error.exit_code() == 130) {
      fmt::print(stderr, "backburn: {}; the same command goes on from the last checkpoint\n", error.what());
    } else {
      fmt::print(stderr, "backburn: {}\n", error.what());
    }
    return error.exit_code();
  } catch (const std::bad_alloc&) {
    fmt::print(stderr,
               "backburn: out of memory; a smaller model, or fewer answers at once (num_generations), needs less\n");
    return 1;
  } catch (const std::exception& error) {
    fmt::print(stderr, "backburn: internal error: {}\n", error.what());
    return 1;
  }
}

// Where a decode step's and an update's time goes, part by part, beside what the machine allows (SmolLM2-135M): a
// roofline.
//   backburn bench --measure machine    says the two figures that it wants: bf16 GFLOP/s and GB/s
//   cmake --build build/release --target bench_parts && build/release/bench/bench_parts GFLOPS GB_PER_S
// Parts are timed alone, over all layers as the decoder calls them; "rest" is the whole less the parts.
#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/sum.h>
#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <vector>

#include "backburn/base/stopwatch.h"
#include "backburn/generate/sampler.h"
#include "backburn/kernels/attention.h"
#include "backburn/kernels/elementwise.h"
#include "backburn/kernels/parallel.h"
#include "backburn/model/load.h"
#include "backburn/model/packed.h"
#include "backburn/train/logprobs.h"

namespace {

using namespace backburn;
using kernels::bf16;

constexpr int64_t held = 56;  // tokens in the cache: in the middle of 48 after a prompt of 32

struct Limits {
  double gflops, gb_per_s;
};

bf16* bits(const at::Tensor& tensor) { return reinterpret_cast<bf16*>(tensor.data_ptr()); }

at::Tensor values(at::IntArrayRef shape) { return at::randn(shape).mul_(0.1).to(at::kBFloat16); }

// before: what puts the caches into the state that a whole step leaves them in.
double median_ms(
    int turns, const std::function<void()>& part, const std::function<void()>& before = [] {}) {
  part();  // warms up
  std::vector<double> times;
  for (int i = 0; i < turns; ++i) {
    before();
    const Stopwatch watch;
    part();
    times.push_back(1e3 * watch.seconds());
  }
  std::nth_element(times.begin(), times.begin() + turns / 2, times.end());
  return times[turns / 2];
}

void print_head(const std::string& what) {
  fmt::print("\n| {} | ms | share | GFLOP/s | GB/s | limit, ms | of the limit |\n|---|---|---|---|---|---|---|\n",
             what);
}

void print_row(const std::string& what, double ms, double whole) {
  fmt::print("| {} | {:.2f} | {:.0f}% | | | | |\n", what, ms, 100 * ms / whole);
}

// A product over weights of `gb` in all; it can be no faster than they are read, or multiplied.
void print_row(const std::string& what, double ms, double whole, double gflop, double gb, const Limits& limits) {
  const double least = 1e3 * std::max(gflop / limits.gflops, gb / limits.gb_per_s);
  fmt::print("| {} | {:.2f} | {:.0f}% | {:.0f} | {:.1f} | {:.2f} | {:.2f} |\n", what, ms, 100 * ms / whole,
             1e3 * gflop / ms, 1e3 * gb / ms, least, least / ms);
}

double weights_of(const kernels::PackedMatrix& w) { return static_cast<double>(w.n() * w.k()); }

// All layers' products for `rows` rows, one after the other.
class Products {
 public:
  Products(const model::Model& model, int64_t rows)
      : config_(model.config), packed_(*model.weights.packed), rows_(rows), layers_(model.config.num_hidden_layers) {
    const int64_t widest = std::max(config_.intermediate_size, packed_.layer(0)[0].n());
    x_ = values({rows, widest});
    y_ = values({rows, 2 * widest});
  }

  double weights() const {
    double sum = 0;
    for (int64_t layer = 0; layer < layers_; ++layer) {
      for (const auto& w : packed_.layer(layer)) sum += weights_of(w);
    }
    return sum;
  }

  void forward() const {
    for (int64_t layer = 0; layer < layers_; ++layer) {
      const auto& [qkv, o, gate_up, down] = packed_.layer(layer);
      kernels::parallel([&, &qkv = qkv, &o = o, &gate_up = gate_up, &down = down] {
        kernels::team_multiply(rows_, terms(qkv), nullptr, bits(y_), qkv.n());
        kernels::team_multiply_residual(rows_, terms(o), nullptr, bits(y_), bits(y_), o.n());
        kernels::team_multiply_swiglu(rows_, terms(gate_up), nullptr, bits(y_), config_.intermediate_size);
        kernels::team_multiply_residual(rows_, terms(down), nullptr, bits(y_), bits(y_), down.n());
      });
    }
  }

  void backward() const {
    for (int64_t layer = 0; layer < layers_; ++layer) {
      for (const auto& w : packed_.transposed(layer)) {
        kernels::parallel([&] { kernels::team_multiply(rows_, terms(w), nullptr, bits(y_), w.n()); });
      }
    }
  }

 private:
  kernels::Terms terms(const kernels::PackedMatrix& w) const { return {{bits(x_), w.k(), &w}, {}}; }

  const model::ModelConfig& config_;
  const model::PackedWeights& packed_;
  int64_t rows_, layers_;
  at::Tensor x_, y_;
};

void decoding(const model::Model& model, int64_t rows, const Limits& limits) {
  const at::NoGradGuard no_grad;
  constexpr int turns = 15;
  const auto& config = model.config;
  const auto network = model.network();
  const auto& head = model.weights.packed->head();
  const kernels::HeadShape shape{config.num_attention_heads, config.num_key_value_heads, config.head_dim};
  auto cache = model::KeyValueCache::allocate(config, rows, 2 * held, network.options());
  for (auto& layer : cache.layers) layer.keys.zero_(), layer.values.zero_();
  const std::vector<int32_t> ids(rows, 100);
  const std::vector<float> draws(rows, 0.5F);

  const double whole = median_ms(turns, [&] {
    std::fill(cache.lengths.begin(), cache.lengths.end(), held);
    generate::sample(logits(network, decode_step(network, ids, cache)), draws, {});
  });

  const Products products(model, rows);
  const double of_products = median_ms(turns, [&] { products.forward(); });
  const auto hidden = values({rows, config.hidden_size});
  const auto other_weights = [&] { products.forward(); };
  const double of_head = median_ms(
      turns, [&] { logits(network, hidden); }, other_weights);
  const auto logits_of_rows = logits(network, hidden);
  const double of_sampling = median_ms(turns, [&] { generate::sample(logits_of_rows, draws, {}); });
  std::fill(cache.lengths.begin(), cache.lengths.end(), held);
  const auto qkv = values({rows, shape.width()});
  const auto attended = values({rows, shape.queries()});
  const double of_attention = median_ms(
      turns,
      [&] {
        kernels::parallel([&] {
          for (const auto& layer : cache.layers) {
            kernels::team_attend_cached(shape, rows, bits(qkv), cache.lengths.data(), layer.keys.size(2),
                                        bits(layer.keys), bits(layer.values), bits(attended), nullptr);
          }
        });
      },
      other_weights);
  const auto normed = at::empty_like(hidden);
  const auto turned = at::zeros({rows, config.head_dim / 2});
  const double of_norms = median_ms(turns, [&] {
    kernels::parallel([&] {
      for (const auto& layer : model.weights.layers) {
        for (int i = 0; i < 2; ++i) {
          kernels::team_rms_norm(rows, config.hidden_size, bits(hidden), bits(layer.mlp_norm), 1e-5F, bits(normed));
        }
        kernels::team_rotate(rows, shape.heads + shape.key_value_heads, shape.head_dim, turned.data_ptr<float>(),
                             turned.data_ptr<float>(), bits(qkv), shape.width());
      }
    });
  });

  print_head(fmt::format("decoding {} row{}", rows, rows == 1 ? "" : "s"));
  const double layers = 1e-9 * products.weights();
  const double last = 1e-9 * weights_of(head);
  const auto count = static_cast<double>(rows);
  print_row("layers' products", of_products, whole, 2 * layers * count, 2 * layers, limits);
  print_row("head", of_head, whole, 2 * last * count, 2 * last, limits);
  print_row("attention", of_attention, whole);
  print_row("norms, rotation", of_norms, whole);
  print_row("sampling", of_sampling, whole);
  print_row("rest", whole - of_products - of_head - of_attention - of_norms - of_sampling, whole);
  print_row("a step", whole, whole, 2 * (layers + last) * count, 2 * (layers + last), limits);
}

void updating(const model::Model& model, const Limits& limits) {
  constexpr int turns = 3;
  std::vector<model::TokenTree> trees(4);
  for (auto& tree : trees) {
    tree.prefix.assign(40, 100);
    tree.branches.assign(8, std::vector<int32_t>(48, 500));
  }
  const auto tokens = model::pack(trees);
  const auto adapter = model::make_adapter(model.config, 16, 32, 1);
  const auto network = model.network(&adapter);
  const auto predictions = train::branch_predictions(tokens);
  const double whole = median_ms(turns, [&] {
    const auto states = train::predicting_states(network, tokens, predictions);
    train::token_logprobs(network, states, predictions.targets, 1.0).logprobs.sum().backward();
  });
  const Products products(model, tokens.tokens());
  const double of_products = median_ms(turns, [&] {
    products.forward();
    products.backward();
  });
  const auto states = train::predicting_states(network, tokens, predictions).detach().requires_grad_();
  const double of_head = median_ms(
      turns, [&] { train::token_logprobs(network, states, predictions.targets, 1.0).logprobs.sum().backward(); });

  print_head(
      fmt::format("an update, its forward pass included: {} tokens, {} predicted", tokens.tokens(), states.size(0)));
  const double layers = 4e-9 * products.weights() * static_cast<double>(tokens.tokens());
  // Forward, forward again, and the gradient.
  const double last = 6e-9 * weights_of(model.weights.packed->head()) * static_cast<double>(states.size(0));
  print_row("layers' products", of_products, whole, layers, 0, limits);
  print_row("head and log-probabilities", of_head, whole, last, 0, limits);
  print_row("low-rank products, attention, rest", whole - of_products - of_head, whole);
  print_row("an update", whole, whole, layers + last, 0, limits);
}

}  // namespace

int main(int argc, char** argv) {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // as the program does
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  if (argc != 3) {
    fmt::print(stderr, "usage: bench_parts GFLOPS GB_PER_S, as `backburn bench --measure machine` gives them\n");
    return 2;
  }
  const Limits limits{std::atof(argv[1]), std::atof(argv[2])};
  const auto model = model::load_model("smollm2-135m-instruct", at::kBFloat16);
  if (!model.weights.packed) {
    fmt::print(stderr, "this CPU has neither AVX-512 BF16 nor AVX2: there are no kernels to look at\n");
    return 1;
  }
  for (const int64_t rows : {1, 32, 64}) decoding(model, rows, limits);
  updating(model, limits);
  return 0;
}

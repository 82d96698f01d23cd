#include "backburn/train/optimizer.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "backburn/base/error.h"

namespace backburn::train {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pointwise;

std::vector<double> rates(OptimizerOptions options, int64_t max_steps) {
  options.learning_rate = 1;
  std::vector<double> list;
  for (int64_t step = 0; step < max_steps; ++step) list.push_back(learning_rate_at(options, step, max_steps));
  return list;
}

void set_gradient(const at::Tensor& parameter, const at::Tensor& gradient) {
  parameter.mutable_grad() = gradient.clone();
}

TEST(Optimizer, IsAdamW) {
  at::manual_seed(2);
  const OptimizerOptions options{
      .adam_beta1 = 0.8, .adam_beta2 = 0.95, .adam_epsilon = 1e-6, .weight_decay = 0.1, .max_grad_norm = 0};
  const auto parameter = at::randn({5, 3}).requires_grad_(true);
  auto expected = parameter.detach().to(at::kDouble);
  auto first = at::zeros_like(expected), second = at::zeros_like(expected);
  auto state = make_optimizer_state({parameter});
  for (int step = 1; step <= 6; ++step) {
    const auto gradient = at::randn({5, 3});
    set_gradient(parameter, gradient);
    optimizer_step(options, 0.01 * step, {parameter}, state);
    // Loshchilov 2017, algorithm 2.
    first = first * 0.8 + gradient * 0.2;
    second = second * 0.95 + gradient.square() * 0.05;
    const auto direction = first / (1 - std::pow(0.8, step)) / ((second / (1 - std::pow(0.95, step))).sqrt() + 1e-6);
    expected = expected - 0.01 * step * (direction + 0.1 * expected);
    EXPECT_LT((parameter.detach() - expected).abs().max().item<double>(), 1e-6) << step;
    EXPECT_FALSE(parameter.grad().defined());
  }
}

TEST(Optimizer, ScalesALongGradientDown) {
  const auto left = at::zeros({1}).requires_grad_(true), right = at::zeros({1}).requires_grad_(true);
  auto state = make_optimizer_state({left, right});
  set_gradient(left, at::tensor({3.0F}));
  set_gradient(right, at::tensor({4.0F}));
  EXPECT_NEAR(optimizer_step({}, 0, {left, right}, state), 5, 1e-6);
  // The first moment is a tenth of the clipped gradient.
  EXPECT_NEAR(state.first_moments[0].item<double>(), 0.06, 1e-6);
  EXPECT_NEAR(state.first_moments[1].item<double>(), 0.08, 1e-6);

  set_gradient(left, at::tensor({0.3F}));  // and none for the other: it counts as zero
  EXPECT_NEAR(optimizer_step({}, 0, {left, right}, state), 0.3, 1e-6);
  EXPECT_NEAR(state.first_moments[0].item<double>(), 0.06 * 0.9 + 0.03, 1e-6);
  EXPECT_NEAR(state.first_moments[1].item<double>(), 0.08 * 0.9, 1e-6);
}

TEST(Optimizer, AGradientThatIsNoNumberIsAnErrorAndChangesNothing) {
  const auto parameter = at::ones({2}).requires_grad_(true);
  auto state = make_optimizer_state({parameter});
  set_gradient(parameter, at::tensor({1.0F, std::nanf("")}));
  try {
    optimizer_step({}, 0.1, {parameter}, state);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("lower learning_rate"));
  }
  EXPECT_TRUE(at::equal(parameter.detach(), at::ones({2})));
}

// transformers.get_scheduler(name, optimizer, num_warmup_steps=2, num_training_steps=6)
TEST(Optimizer, SchedulesAreThoseOfTransformers) {
  auto near = [](const std::vector<double>& values) { return Pointwise(DoubleNear(1e-9), values); };
  EXPECT_THAT(rates({.lr_scheduler_type = "constant"}, 3), ElementsAre(1, 1, 1));
  EXPECT_THAT(rates({.lr_scheduler_type = "constant", .warmup_steps = 2}, 4), near({0, 0.5, 1, 1}));
  EXPECT_THAT(rates({.lr_scheduler_type = "linear", .warmup_steps = 2}, 6), near({0, 0.5, 1, 0.75, 0.5, 0.25}));
  EXPECT_THAT(rates({.lr_scheduler_type = "cosine", .warmup_steps = 2}, 6),
              near({0, 0.5, 1, 0.5 + std::sqrt(0.125), 0.5, 0.5 - std::sqrt(0.125)}));
  EXPECT_THAT(rates({.lr_scheduler_type = "linear"}, 4), near({1, 0.75, 0.5, 0.25}));
  EXPECT_EQ(learning_rate_at({.learning_rate = 1, .lr_scheduler_type = "linear"}, 9, 4), 0);
  EXPECT_THROW(learning_rate_at({.lr_scheduler_type = "polynomial"}, 0, 4), Error);
}

}  // namespace
}  // namespace backburn::train

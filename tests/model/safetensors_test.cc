#include "backburn/model/safetensors.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <fstream>
#include <limits>
#include <random>

#include "backburn/base/error.h"

namespace backburn::model {
namespace {

using testing::HasSubstr;

std::string file_with(const std::string& header, const std::string& data) {
  const uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + header + data;
}

class SafetensorsTest : public testing::Test {
 protected:
  std::filesystem::path path() const { return folder_.path() / "model.safetensors"; }
  std::string error_of(const std::string& bytes) {
    std::ofstream(path(), std::ios::binary) << bytes;
    try {
      Safetensors::open(path());
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  TemporaryFolder folder_;
};

TEST_F(SafetensorsTest, WhatIsWrittenIsRead) {
  const at::Tensor a = at::arange(6, at::kFloat).reshape({2, 3}) / 3;
  const at::Tensor b = at::ones({4}, at::kBFloat16);
  for (at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    write_safetensors(path(), std::array<NamedTensor, 2>{{{"a", a}, {"b", b}}}, dtype);
    const auto stored = Safetensors::open_folder(folder_.path());
    const at::Tensor back = stored.tensor("a", std::array<int64_t, 2>{2, 3}, at::kFloat);
    EXPECT_TRUE(at::equal(back, a.to(dtype).to(at::kFloat)));
    EXPECT_TRUE(at::equal(stored.tensor("b", std::array<int64_t, 1>{4}, at::kBFloat16), b));
  }
}

TEST_F(SafetensorsTest, ATensorOfTheWantedDtypeViewsTheFileAndOutlivesItsReader) {
  write_safetensors(path(), std::array<NamedTensor, 1>{{{"a", at::arange(1024, at::kFloat)}}}, at::kFloat);
  at::Tensor first, second;
  {
    const auto stored = Safetensors::open(path());
    first = stored.tensor("a", std::array<int64_t, 1>{1024}, at::kFloat);
    second = stored.tensor("a", std::array<int64_t, 1>{1024}, at::kFloat);
  }
  EXPECT_EQ(first.const_data_ptr(), second.const_data_ptr());
  EXPECT_EQ(first.sum().item<float>(), 1023.0f * 512);
}

TEST_F(SafetensorsTest, LargeModelsAreCutIntoShards) {
  std::vector<TensorToWrite> tensors;
  for (int i = 0; i < 5; ++i) {
    tensors.push_back({"t" + std::to_string(i), {10}, [i] { return at::full({10}, i, at::kFloat); }});
  }
  write_safetensors_folder(folder_.path(), tensors, at::kFloat, 80);
  EXPECT_TRUE(std::filesystem::exists(folder_.path() / "model-00003-of-00003.safetensors"));
  const auto stored = Safetensors::open_folder(folder_.path());
  EXPECT_EQ(stored.entries().size(), 5u);
  EXPECT_TRUE(at::equal(stored.tensor("t4", std::array<int64_t, 1>{10}, at::kFloat), tensors[4].make()));
}

TEST_F(SafetensorsTest, AnIndexCannotLeadOutOfTheFolder) {
  std::ofstream(folder_.path() / "model.safetensors.index.json") << R"({"weight_map": {"a": "../secret.safetensors"}})";
  EXPECT_THROW(Safetensors::open_folder(folder_.path()), Error);
}

TEST_F(SafetensorsTest, NamesWhatIsWrong) {
  const std::string data(16, '\0');
  EXPECT_THAT(error_of("abc"), HasSubstr("3 bytes"));
  EXPECT_THAT(error_of(std::string(8, '\xff')), HasSubstr("header claims"));
  EXPECT_THAT(error_of(file_with("{", data)), HasSubstr("not JSON"));
  EXPECT_THAT(error_of(file_with(std::string(1 << 20, '['), data)), HasSubstr("nested too deeply"));
  EXPECT_THAT(error_of(file_with("[]", data)), HasSubstr("JSON object"));
  EXPECT_THAT(error_of(file_with(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,12]}})", data)),
              HasSubstr("need 16"));
  EXPECT_THAT(error_of(file_with(R"({"a":{"dtype":"F32","shape":[5],"data_offsets":[0,20]}})", data)),
              HasSubstr("cut short"));
  EXPECT_THAT(error_of(file_with(R"({"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}})", data)),
              HasSubstr("whole number"));
  EXPECT_THAT(error_of(file_with(R"({"a":{"dtype":"Q8","shape":[4],"data_offsets":[0,16]}})", data)),
              HasSubstr("unknown dtype"));
  EXPECT_THAT(
      error_of(file_with(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", data)),
      HasSubstr("does not fit"));
  EXPECT_THAT(error_of(file_with(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                                 R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                                 data)),
              HasSubstr("overlap"));
  EXPECT_THAT(error_of(file_with(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                                 R"("a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
                                 data)),
              HasSubstr("twice"));
}

TEST_F(SafetensorsTest, NotANumberIsNamed) {
  const float values[2] = {1, std::numeric_limits<float>::quiet_NaN()};
  const std::string header = R"({"lm_head.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  ASSERT_EQ(error_of(file_with(header, {reinterpret_cast<const char*>(values), 8})), "no error");
  const auto stored = Safetensors::open(path());
  try {
    stored.tensor("lm_head.weight", std::array<int64_t, 1>{2}, at::kFloat);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("\"lm_head.weight\" holds a NaN or an infinity (value 1 of 2)"));
  }
  EXPECT_THROW(stored.tensor("lm_head.weight", std::array<int64_t, 2>{1, 2}, at::kFloat), Error);
  EXPECT_THROW(stored.tensor("other", std::array<int64_t, 1>{2}, at::kFloat), Error);
}

TEST_F(SafetensorsTest, AValueThatTheDtypeCannotHoldWritesNothing) {
  const NamedTensor large{"a", at::full({2}, 1e6f)};
  EXPECT_THROW(write_safetensors(path(), std::span(&large, 1), at::kHalf), Error);
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(SafetensorsTest, EveryTruncationIsAnErrorAndDamageNeverCrashes) {
  write_safetensors(path(), std::array<NamedTensor, 2>{{{"a", at::ones({3, 2})}, {"b", at::ones({4})}}}, at::kFloat);
  const std::string whole = read_file(path());
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_NE(error_of(whole.substr(0, length)), "no error") << "cut to " << length << " bytes";
  }
  std::mt19937 random(2);
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = whole;
    for (unsigned i = 0; i <= random() % 3; ++i) damaged[random() % damaged.size()] = static_cast<char>(random() % 256);
    std::ofstream(path(), std::ios::binary) << damaged;
    try {
      const auto stored = Safetensors::open(path());
      for (const auto& [name, entry] : stored.entries()) stored.tensor(name, entry.shape, at::kFloat);
    } catch (const Error&) {
    }
  }
}

}  // namespace
}  // namespace backburn::model

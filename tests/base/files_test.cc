#include "backburn/base/files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "backburn/base/error.h"
#include "base/error_of.h"

namespace backburn {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class Files : public testing::Test {
 protected:
  fs::path path(const char* name) const { return folder_.path() / name; }
  size_t count() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_.path()), fs::directory_iterator()));
  }
  TemporaryFolder folder_;
};

TEST_F(Files, WhatIsWrittenIsRead) {
  const std::string text("a\0b\n", 4);
  write_file(path("x"), text);
  EXPECT_EQ(read_file(path("x")), text);
  write_file(path("x"), "");
  EXPECT_EQ(read_file(path("x")), "");
  append_line(path("x"), "one");
  append_line(path("x"), "two");
  EXPECT_EQ(read_file(path("x")), "one\ntwo\n");
  EXPECT_EQ(count(), 1);
}

TEST_F(Files, AnAtomicFileIsThereWholeOrNotAtAll) {
  write_file(path("x"), "old");
  {
    AtomicFile file(path("x"));
    file.write("new");
    EXPECT_EQ(read_file(path("x")), "old");
  }
  EXPECT_EQ(read_file(path("x")), "old");
  EXPECT_EQ(count(), 1);
  AtomicFile file(path("x"));
  file.write("new");
  file.commit();
  EXPECT_EQ(read_file(path("x")), "new");
  EXPECT_EQ(count(), 1);
}

TEST_F(Files, AFailedCommitLeavesNothing) {
  make_folder(path("taken") / "full");
  EXPECT_THAT(error_of([&] { write_file(path("taken"), "x"); }), HasSubstr(path("taken").string() + ": cannot rename"));
  EXPECT_EQ(count(), 1);
}

TEST_F(Files, ErrorsNameThePath) {
  EXPECT_THAT(error_of([&] { read_file(path("none")); }),
              HasSubstr(path("none").string() + ": cannot open: No such file"));
  EXPECT_THAT(error_of([&] { read_file(folder_.path()); }), HasSubstr("is a folder, expected a file"));
  EXPECT_THAT(error_of([&] { MappedFile::open(path("none")); }), HasSubstr("cannot open"));
  EXPECT_THAT(error_of([&] { MappedFile::open(folder_.path()); }), HasSubstr("is a folder"));
  EXPECT_THAT(error_of([&] { write_file(path("none") / "x", "y"); }), HasSubstr("cannot create a file beside"));
  write_file(path("file"), "");
  EXPECT_THAT(error_of([&] { make_folder(path("file") / "x"); }), HasSubstr("cannot create the folder"));
}

TEST_F(Files, AFullDiskIsNamed) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  EXPECT_THAT(error_of([] { append_line("/dev/full", "x"); }),
              HasSubstr("/dev/full: cannot write: No space left on device; free some space"));
}

TEST_F(Files, AMapMoves) {
  write_file(path("x"), "abc");
  MappedFile file = MappedFile::open(path("x"));
  MappedFile other = std::move(file);
  EXPECT_EQ(other.bytes().size(), 3);
  EXPECT_EQ(static_cast<char>(other.bytes()[1]), 'b');
  EXPECT_EQ(other.path(), path("x"));
  write_file(path("empty"), "");
  other = MappedFile::open(path("empty"));
  EXPECT_TRUE(other.bytes().empty());
}

TEST(TemporaryFolderTest, IsGoneInTheEnd) {
  fs::path path;
  {
    const TemporaryFolder folder;
    path = folder.path();
    write_file(path / "x", "y");
    EXPECT_NE(TemporaryFolder().path(), path);
  }
  EXPECT_FALSE(fs::exists(path));
}

}  // namespace
}  // namespace backburn

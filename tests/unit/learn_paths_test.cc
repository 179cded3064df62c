#include "sandbox/policy/learn_paths.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

namespace dunebox::policy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class LearnPathsTest : public testing::Test {
 protected:
  LearnedPaths Learn(const std::vector<PathUse>& uses) {
    return LearnPaths(uses, {.home = "/home/ann", .is_directory = [this](const std::string& path) {
                               return directories_.contains(path);
                             }});
  }

  // "ro PATH", "rw PATH", "tmpfs PATH"
  std::vector<std::string> Trees(const std::vector<PathUse>& uses) {
    std::vector<std::string> trees;
    for (const LearnedTree& tree : Learn(uses).trees) {
      const char* const kind = tree.is_tmpfs                                 ? "tmpfs "
                               : tree.rights == hostcalls::policy::kReadOnly ? "ro "
                                                                             : "rw ";
      trees.push_back(kind + tree.path);
    }
    return trees;
  }

  std::set<std::string> directories_ = {"/", "/home/ann", "/etc", "/srv", "/srv/data"};
};

TEST_F(LearnPathsTest, AFileThatIsReadIsProposedItself) {
  EXPECT_THAT(Trees({{"/srv/data/a.conf"}, {"/etc/hostname"}}),
              ElementsAre("ro /etc/hostname", "ro /srv/data/a.conf"));
}

TEST_F(LearnPathsTest, CreatingNeedsTheDirectoryAndWritingTheFile) {
  EXPECT_THAT(Trees({{"/srv/out/result", UseKind::kCreate}, {"/srv/state", UseKind::kWrite}}),
              ElementsAre("rw /srv/out", "rw /srv/state"));
  // What was made there is covered, however it was used then.
  EXPECT_THAT(Trees({{"/srv/out/result", UseKind::kCreate},
                     {"/srv/out/result", UseKind::kWrite},
                     {"/srv/out/result", UseKind::kRead}}),
              ElementsAre("rw /srv/out"));
}

TEST_F(LearnPathsTest, EveryUseBelongsToATreeOrHasAReason) {
  directories_.insert("/home/ann");
  const std::vector<PathUse> uses = {{"/srv/data/a"},
                                     {"/srv/data/b"},
                                     {"/home/ann", UseKind::kLookUp},
                                     {"/srv/data/c", UseKind::kWrite},
                                     {"/srv/data/x", UseKind::kCreate}};
  const LearnedPaths learned = Learn(uses);
  std::multiset<std::size_t> seen;
  for (const LearnedTree& tree : learned.trees) seen.insert(tree.uses.begin(), tree.uses.end());
  for (const UnmetUse& unmet : learned.unmet) seen.insert(unmet.use);
  EXPECT_THAT(seen, ElementsAre(0, 1, 2, 3, 4));
}

TEST_F(LearnPathsTest, ManyFilesOfAFolderAreTheFolder) {
  EXPECT_THAT(Trees({{"/srv/data/a"}, {"/srv/data/b"}, {"/srv/data/c"}}),
              ElementsAre("ro /srv/data/a", "ro /srv/data/b", "ro /srv/data/c"));
  EXPECT_THAT(Trees({{"/srv/data/a"}, {"/srv/data/b"}, {"/srv/data/c"}, {"/srv/data/d"}}),
              ElementsAre("ro /srv/data"));
  // Folders of a folder, too.
  std::vector<PathUse> uses;
  for (const char* const folder : {"k", "l", "m", "n"}) {
    for (const char* const file : {"1", "2", "3", "4"}) {
      uses.push_back({std::string("/srv/data/") + folder + "/" + file});
    }
  }
  EXPECT_THAT(Trees(uses), ElementsAre("ro /srv/data"));
}

TEST_F(LearnPathsTest, WhatEverybodysDataIsInIsNeverProposedAsAWhole) {
  EXPECT_THAT(Trees({{"/etc/a"}, {"/etc/b"}, {"/etc/c"}, {"/etc/d"}, {"/etc/e"}}),
              testing::SizeIs(5));
  EXPECT_THAT(Trees({{"/home/ann/a"}, {"/home/ann/b"}, {"/home/ann/c"}, {"/home/ann/d"}}),
              testing::SizeIs(4));
  // The parent of secrets neither.
  EXPECT_THAT(Trees({{"/etc/ssl/a"}, {"/etc/ssl/b"}, {"/etc/ssl/c"}, {"/etc/ssl/d"}}),
              testing::SizeIs(4));
  EXPECT_THAT(
      Trees(
          {{"/home/ann/.ssh/a"}, {"/home/ann/.ssh/b"}, {"/home/ann/.ssh/c"}, {"/home/ann/.ssh/d"}}),
      testing::SizeIs(4));
}

TEST_F(LearnPathsTest, ListingOrFillingAWideDirectoryIsLeftToTheUser) {
  const LearnedPaths learned =
      Learn({{"/home/ann", UseKind::kRead}, {"/home/ann/x", UseKind::kCreate}});
  EXPECT_THAT(learned.trees, IsEmpty());
  ASSERT_EQ(learned.unmet.size(), 2u);
  EXPECT_THAT(learned.unmet[0].reason, HasSubstr("all of /home/ann for reading"));
  EXPECT_THAT(learned.unmet[1].reason, HasSubstr("all of /home/ann for writing"));
}

TEST_F(LearnPathsTest, ModulesOfAnInterpreterAreOneTree) {
  EXPECT_THAT(
      Trees({{"/home/ann/v/lib/python3.11/site-packages/yaml/__init__.py"},
             {"/home/ann/v/lib/python3.11/site-packages/yaml/__pycache__/x.cpython-311.pyc"},
             {"/srv/app/node_modules/left/index.js"},
             {"/home/ann/perl5/lib/perl5/Foo.pm"}}),
      ElementsAre("ro /home/ann/perl5", "ro /home/ann/v/lib/python3.11/site-packages",
                  "ro /srv/app/node_modules"));
}

TEST_F(LearnPathsTest, APackageIsOneTree) {
  EXPECT_THAT(Trees({{"/opt/tool/bin/run", UseKind::kExecute}, {"/opt/tool/share/x/y"}}),
              ElementsAre("ro /opt/tool"));
  EXPECT_THAT(Trees({{"/opt/tool"}}), ElementsAre("ro /opt/tool"));
}

TEST_F(LearnPathsTest, CompiledPythonIsNeitherWrittenNorTheReasonForARule) {
  const LearnedPaths learned =
      Learn({{"/srv/data/__pycache__", UseKind::kCreate},
             {"/srv/data/__pycache__/m.cpython-311.pyc.140", UseKind::kCreate}});
  EXPECT_THAT(learned.trees, IsEmpty());
  EXPECT_EQ(learned.unmet.size(), 2u);
  EXPECT_THAT(Trees({{"/srv/app/m.py"}, {"/srv/app/__pycache__/m.cpython-311.pyc"}}),
              ElementsAre("ro /srv/app"));
}

TEST_F(LearnPathsTest, TemporaryFilesOfItsOwnGetATmpfs) {
  EXPECT_THAT(Trees({{"/tmp/tmpab12cd", UseKind::kCreate},
                     {"/tmp/tmpab12cd/x", UseKind::kCreate},
                     {"/tmp/tmpab12cd/x", UseKind::kRead},
                     {"/var/tmp/sort.1", UseKind::kCreate}}),
              ElementsAre("tmpfs /tmp", "tmpfs /var/tmp"));
}

TEST_F(LearnPathsTest, ATemporaryDirectoryThatWasThereBeforeIsADirectory) {
  EXPECT_THAT(Trees({{"/tmp/tmp.Xy12/in.conf", UseKind::kRead},
                     {"/tmp/tmp.Xy12/out/result", UseKind::kCreate}}),
              ElementsAre("ro /tmp/tmp.Xy12/in.conf", "rw /tmp/tmp.Xy12/out"));
}

TEST_F(LearnPathsTest, ARandomNameStandsForItsFolder) {
  EXPECT_THAT(Trees({{"/srv/data/9f86d081884c7d659a2f"}}), ElementsAre("ro /srv/data"));
  EXPECT_THAT(Trees({{"/home/ann/9f86d081884c7d659a2f"}}),
              ElementsAre("ro /home/ann/9f86d081884c7d659a2f"));
}

TEST_F(LearnPathsTest, ADirectoryThatWasOnlyLookedUpIsNotOpened) {
  EXPECT_THAT(Trees({{"/srv/data", UseKind::kLookUp}}), IsEmpty());
  EXPECT_THAT(Trees({{"/srv/file", UseKind::kLookUp}}), ElementsAre("ro /srv/file"));
  EXPECT_EQ(Learn({{"/srv/data", UseKind::kLookUp}}).unmet.size(), 1u);
  // Unless something else opens it.
  EXPECT_THAT(Learn({{"/srv/data", UseKind::kLookUp}, {"/srv/data", UseKind::kRead}}).unmet,
              IsEmpty());
}

TEST(LooksRandom, TellsMachinesNamesFromPeoples) {
  for (const char* const name : {"tmp.Xy12Ab9Q", "9f86d081884c7d65", "x-9F86D081884C7D65.bin",
                                 "550e8400-e29b-41d4-a716-446655440000-0123456789abcdef"}) {
    EXPECT_TRUE(LooksRandom(name)) << name;
  }
  for (const char* const name : {"config", "README.md", "libfoo.so.6", "python3.11", "MyModule",
                                 "deadbeef", "report2026", "20261121", "HTTPServer", "utf8", ""}) {
    EXPECT_FALSE(LooksRandom(name)) << name;
  }
}

}  // namespace
}  // namespace dunebox::policy

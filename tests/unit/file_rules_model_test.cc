// The file rules against a model: two threads of a program do random things with random paths in
// one tree, each in the other's way. The model is what may ever become of the files that were there
// at the beginning:
//   hidden/   never opened, never named elsewhere, never changed
//   lib/      opened for reading only, never named elsewhere, never changed
//   the rest  anything
// DUNEBOX_SEED=N in the environment repeats a run as far as two threads can; DUNEBOX_ROUNDS=N makes
// it longer.
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "hostcalls/services/file_rules.h"
#include "services_fixture.h"

namespace dunebox::hostcalls {
namespace {

namespace fs = std::filesystem;
using policy::kAllRights;
using policy::kCreateFile;
using policy::kReadOnly;
using policy::kWriteFile;

constexpr int kRounds = 6000;  // of each thread

int Setting(const char* name, int otherwise) {
  const char* text = getenv(name);
  return text == nullptr ? otherwise : atoi(text);
}

ino_t InodeOf(const fs::path& path) {
  struct stat status {};
  return lstat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

// What was there at the beginning, and what it was.
struct Model {
  std::set<ino_t> hidden;
  std::set<ino_t> library;
  std::map<std::string, std::string> contents;  // of every file in both, by path
};

// One thread of the program.
class Player {
 public:
  Player(const Model& model, const policy::Guard& guard, std::string base, unsigned seed,
         std::uint64_t slice)
      : model_(model),
        base_(std::move(base)),
        random_(seed),
        thread_(slice),
        first_(thread_.Allocate(PATH_MAX)),
        second_(thread_.Allocate(PATH_MAX)),
        status_(thread_.Allocate(sizeof(struct stat))) {
    thread_.guard = &guard;
  }

  void Play(int rounds) {
    for (int i = 0; i < rounds; ++i) Step();
  }
  int opened() const { return opened_; }

 private:
  unsigned Pick(unsigned count) { return static_cast<unsigned>(random_() % count); }
  std::string Path();
  std::uint64_t Put(std::uint64_t to, const std::string& text) {
    std::memcpy(reinterpret_cast<void*>(to), text.c_str(), text.size() + 1);
    return to;
  }
  void Step();
  void Open();
  void Judge(int fd, std::uint64_t flags);

  const Model& model_;
  const std::string base_;
  std::mt19937 random_;
  TestThread thread_;
  const std::uint64_t first_, second_, status_;
  int opened_ = 0;
};

// A few names, so that the threads and the calls meet.
std::string Player::Path() {
  static constexpr const char* kStarts[] = {"work", "lib",      "hidden",
                                            "drop", "work/dir", "work/way"};
  static constexpr const char* kNames[] = {"file",   "dir", "way", "..",          ".",       "work",
                                           "hidden", "lib", "new", "hidden/file", "lib/file"};
  std::string path;
  switch (Pick(6)) {
    case 0:
      path = "/proc/self/cwd/";
      break;
    case 1:
      path = base_ + "/";
      break;
    case 2:
      path = "/proc/thread-self/root" + base_ + "/";
      break;
    default:
      break;  // from the working directory
  }
  path += kStarts[Pick(std::size(kStarts))];
  for (unsigned more = Pick(4); more > 0; --more) {
    path += "/";
    path += kNames[Pick(std::size(kNames))];
  }
  if (Pick(12) == 0) path += "/";
  return path;
}

void Player::Judge(int fd, std::uint64_t flags) {
  ++opened_;
  struct stat status {};
  EXPECT_EQ(fstat(fd, &status), 0);
  const bool usable = (flags & O_PATH) == 0;
  const bool writing = usable && (flags & (O_ACCMODE | O_TRUNC)) != O_RDONLY;
  EXPECT_FALSE(usable && model_.hidden.contains(status.st_ino)) << "a hidden file was opened";
  EXPECT_FALSE(writing && model_.library.contains(status.st_ino)) << "opened for writing";
  if ((flags & O_ACCMODE) == O_RDONLY || !usable) return;
  EXPECT_EQ(write(fd, "x", 1), 1);
}

void Player::Open() {
  static constexpr std::uint64_t kFlags[] = {O_RDONLY,
                                             O_WRONLY,
                                             O_RDWR,
                                             O_RDWR | O_TRUNC,
                                             O_RDONLY | O_TRUNC,
                                             O_WRONLY | O_CREAT,
                                             O_RDWR | O_CREAT | O_EXCL,
                                             O_RDONLY | O_NOFOLLOW,
                                             O_PATH | O_NOFOLLOW,
                                             O_RDWR | O_TMPFILE};
  const std::uint64_t flags = kFlags[Pick(std::size(kFlags))] | O_CLOEXEC;
  const std::int64_t fd = thread_.Call(SYS_openat, AT_FDCWD, Put(first_, Path()), flags, 0644);
  if (fd < 0) return;
  Judge(static_cast<int>(fd), flags);
  // Its magic link gives no more than it has.
  const std::int64_t again =
      thread_.Call(SYS_open, Put(first_, "/proc/self/fd/" + std::to_string(fd)), O_RDWR, 0);
  if (again >= 0) Judge(static_cast<int>(again), O_RDWR);
  if (again >= 0) close(static_cast<int>(again));
  if (Pick(4) == 0) {
    (void)thread_.Call(SYS_linkat, fd, Put(first_, ""), AT_FDCWD, Put(second_, Path()),
                       AT_EMPTY_PATH);
    (void)thread_.Call(SYS_fchmod, fd, 0600);
  }
  close(static_cast<int>(fd));
}

void Player::Step() {
  const std::uint64_t one = Put(first_, Path());
  const std::uint64_t other = Put(second_, Path());
  switch (Pick(14)) {
    case 0:
      (void)thread_.Call(SYS_rename, one, other);
      break;
    case 1:
      (void)thread_.Call(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE);
      break;
    case 2:
      (void)thread_.Call(SYS_link, one, other);
      break;
    case 3:
      (void)thread_.Call(SYS_linkat, AT_FDCWD, one, AT_FDCWD, other, AT_SYMLINK_FOLLOW);
      break;
    case 4:
      (void)thread_.Call(SYS_symlink, one, other);
      break;
    case 5:
      (void)thread_.Call(SYS_mkdir, one, 0755);
      break;
    case 6:
      (void)thread_.Call(Pick(2) == 0 ? SYS_unlink : SYS_rmdir, one);
      break;
    case 7:
      (void)thread_.Call(SYS_chmod, one, 0700);
      break;
    case 8:
      (void)thread_.Call(SYS_truncate, one, 0);
      break;
    case 9:
      if (thread_.Call(SYS_stat, one, status_) == 0) {
        const ino_t inode = TestThread::At<struct stat>(status_).st_ino;
        EXPECT_FALSE(model_.hidden.contains(inode)) << "a hidden file was looked at";
      }
      break;
    default:
      Open();
      break;
  }
}

class FileRulesModelTest : public ServicesTest {
 protected:
  FileRulesModelTest() {
    for (const char* name :
         {"work", "work/dir", "lib", "lib/dir", "drop", "hidden", "hidden/dir"}) {
      mkdir(name, 0755);
    }
    for (const char* name : {"hidden/file", "hidden/dir/file", "lib/file", "lib/dir/file"}) {
      model_.contents[name] = std::string("this is ") + name;
      MakeFile(name, model_.contents[name]);
    }
    MakeFile("work/file", "mine");
    [[maybe_unused]] const int made = symlink("../hidden", "work/way");
    for (const char* name : {"hidden/file", "hidden/dir/file", "hidden", "hidden/dir"}) {
      model_.hidden.insert(InodeOf(name));
    }
    for (const char* name : {"lib/file", "lib/dir/file", "lib", "lib/dir"}) {
      model_.library.insert(InodeOf(name));
    }
    rules_.allow_all = false;
    rules_.paths = {{directory_ + "/drop", kCreateFile | kWriteFile},
                    {directory_ + "/lib", kReadOnly},
                    {directory_ + "/work", kAllRights}};
  }
  std::string TextOf(const std::string& name) {
    const int fd = open(name.c_str(), O_RDONLY | O_CLOEXEC);
    std::string text = ReadAll(fd);
    close(fd);
    return text;
  }
  static std::size_t CountIn(const char* directory) {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry : fs::recursive_directory_iterator(directory)) ++count;
    return count;
  }

  Model model_;
  policy::Rules rules_;
  policy::Guard guard_{rules_, nullptr};
};

TEST_F(FileRulesModelTest, NothingEverGetsOutOfItsTree) {
  const auto seed = static_cast<unsigned>(Setting("DUNEBOX_SEED", 1));
  const int rounds = Setting("DUNEBOX_ROUNDS", kRounds);
  SCOPED_TRACE("DUNEBOX_SEED=" + std::to_string(seed));
  Player first(model_, guard_, directory_, seed, 0);
  Player second(model_, guard_, directory_, seed + 1'000'000, 2);
  std::thread sibling([&] { second.Play(rounds); });
  first.Play(rounds);
  sibling.join();
  EXPECT_GT(first.opened(), rounds / 100);
  EXPECT_EQ(CountIn("hidden"), 3U);
  EXPECT_EQ(CountIn("lib"), 3U);
  for (const auto& [name, text] : model_.contents) EXPECT_EQ(TextOf(name), text) << name;
  for (const char* top : {"work", "drop"}) {
    for (const auto& entry : fs::recursive_directory_iterator(top)) {
      const ino_t inode = InodeOf(entry.path());
      EXPECT_FALSE(model_.hidden.contains(inode) || model_.library.contains(inode)) << entry.path();
    }
  }
}

}  // namespace
}  // namespace dunebox::hostcalls

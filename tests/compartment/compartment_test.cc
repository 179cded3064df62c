// What compartments have, what they have not, and what they say of it, by either engine.
//
// usage: compartment_test [--engine=translator|ring0] [GoogleTest's options]; ring 0 is to be had in the lab.
#include "dunebox/compartment.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "dune/dune.h"
#include "dunebox/sandbox.h"
#include "hostcalls/table/table.h"
#include "sandbox/compartment/call_groups.h"

namespace dunebox {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

using Byte = const unsigned char*;

CompartmentEngine engine = CompartmentEngine::kTranslator;

bool IsByRing0() { return engine == CompartmentEngine::kRing0; }

class CompartmentTest : public testing::Test {
 protected:
  static std::shared_ptr<CompartmentCode> Code() {
    static const std::shared_ptr<CompartmentCode>* const code = [] {
      CodeOptions options{.libraries = {COMPARTMENT_CASES}, .gates = {"sign", "lend"}};
      options.engine = engine;
      options.policy.deadline = absl::Minutes(2);
      options.policy.memory_limit = 64 << 20;
      auto loaded = CompartmentCode::Load(std::move(options));
      EXPECT_TRUE(loaded.ok()) << loaded.status();
      return new std::shared_ptr<CompartmentCode>(*std::move(loaded));
    }();
    return *code;
  }
  static std::shared_ptr<Compartment> Make(Grants grants,
                                           Compartment::Mode mode = Compartment::Mode::kEnforce) {
    auto made = Compartment::Create(Code(), std::move(grants), mode);
    EXPECT_TRUE(made.ok()) << made.status();
    return *std::move(made);
  }
  static std::shared_ptr<Region> MakeRegion(const std::string& name, const std::string& text,
                                            std::size_t bytes = 4096) {
    auto region = Region::Create(name, bytes);
    EXPECT_TRUE(region.ok()) << region.status();
    std::memcpy((*region)->span().data(), text.data(), text.size());
    return *std::move(region);
  }
  static char At(const Region& region, std::size_t offset) {
    return static_cast<char>(region.span()[offset]);
  }

  template <typename Signature, typename... Arguments>
  static auto Call(Compartment& where, const std::string& name, Arguments... arguments) {
    auto function = where.Function<Signature>(name);
    using Result = decltype((*function)(arguments...));
    if (!function.ok()) return Result(function.status());
    return (*function)(arguments...);
  }
  template <typename Signature, typename... Arguments>
  static auto Value(Compartment& where, const std::string& name, Arguments... arguments) {
    auto result = Call<Signature>(where, name, arguments...);
    EXPECT_TRUE(result.ok()) << name << ": " << result.status();
    using T = decltype(result->UnverifiedValue());
    return result.ok() ? result->UnverifiedValue() : T{};
  }
  static int Peek(Compartment& where, const Region& region, std::uint64_t offset = 0) {
    return Value<int(Byte)>(where, "peek", region.guest<const unsigned char>() + offset);
  }
  static absl::Status Poke(Compartment& where, const Region& region, char value) {
    return Call<void(unsigned char*, int)>(where, "poke", region.guest<unsigned char>(),
                                           int{value});
  }
  static std::vector<std::string> Texts(const Compartment& where) {
    std::vector<std::string> texts;
    for (const AccessFault& fault : where.faults()) texts.push_back(fault.ToText());
    return texts;
  }
};

// ---- memory

TEST_F(CompartmentTest, ReadsWhatItWasGrantedAndNothingElse) {
  const auto open = MakeRegion("open", "o"), secret = MakeRegion("secret", "s");
  const auto compartment = Make(Grants().Add(open, RegionAccess::kRead));
  EXPECT_EQ(Peek(*compartment, *open), 'o');
  const auto refused =
      Call<int(Byte)>(*compartment, "peek", secret->guest<const unsigned char>() + 0x10);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.status().message(),
              HasSubstr("not granted: read of region 'secret' at offset 0x10"));
  const std::optional<Failure> failure = FailureOf(refused.status());
  ASSERT_TRUE(failure.has_value());
  EXPECT_EQ(failure->signal, SIGSEGV);
  EXPECT_EQ(failure->missing_grant, "read of region 'secret' at offset 0x10");
  EXPECT_THAT(failure->symbol, HasSubstr("peek"));
  EXPECT_THAT(Texts(*compartment), ElementsAre("read of region 'secret' at offset 0x10"));
  // It has ended.
  EXPECT_FALSE(Call<int()>(*compartment, "next").ok());
  ASSERT_TRUE(compartment->Recycle().ok());
  EXPECT_THAT(compartment->faults(), IsEmpty());
  EXPECT_EQ(Peek(*compartment, *open), 'o');
}

// The next one may be made of what is left of it.
TEST_F(CompartmentTest, WhatOneHadThatIsGoneTheNextHasNot) {
  const auto secret = MakeRegion("secret", "s");
  for (const RegionAccess access : {RegionAccess::kRead, RegionAccess::kCopyOnWrite, RegionAccess::kReadWrite}) {
    EXPECT_EQ(Peek(*Make(Grants().Add(secret, access)), *secret), 's');
    EXPECT_FALSE(Call<int(Byte)>(*Make(Grants()), "peek", secret->guest<const unsigned char>()).ok());
  }
}

TEST_F(CompartmentTest, DoesNotReachTheHostsOwnViewOfARegion) {
  const auto secret = MakeRegion("secret", "s");
  const auto compartment = Make(Grants());
  const auto host = reinterpret_cast<std::uint64_t>(secret->span().data());
  EXPECT_FALSE(Call<int(Byte)>(*compartment, "peek", TaintedPtr<const unsigned char>(host)).ok());
  ASSERT_EQ(compartment->faults().size(), 1u);
  EXPECT_EQ(compartment->faults()[0].name, "");
}

TEST_F(CompartmentTest, WritesOnlyWhereItMay) {
  const auto read = MakeRegion("read", "r"), copied = MakeRegion("copied", "c"),
             written = MakeRegion("written", "w");
  const auto compartment = Make(Grants()
                                    .Add(read, RegionAccess::kRead)
                                    .Add(copied, RegionAccess::kCopyOnWrite)
                                    .Add(written, RegionAccess::kReadWrite));
  ASSERT_TRUE(Poke(*compartment, *written, 'W').ok());
  EXPECT_EQ(At(*written, 0), 'W');
  ASSERT_TRUE(Poke(*compartment, *copied, 'C').ok());
  EXPECT_EQ(Peek(*compartment, *copied), 'C');
  EXPECT_EQ(At(*copied, 0), 'c');
  EXPECT_FALSE(Poke(*compartment, *read, 'R').ok());
  EXPECT_EQ(At(*read, 0), 'r');
  EXPECT_THAT(Texts(*compartment), ElementsAre("write of region 'read' at offset 0x0"));
  // The copy goes, what was written stays.
  ASSERT_TRUE(compartment->Recycle().ok());
  EXPECT_EQ(Peek(*compartment, *copied), 'c');
  EXPECT_EQ(Peek(*compartment, *written), 'W');
}

TEST_F(CompartmentTest, RegionsLieAtTheSamePlaceInAll) {
  const auto shared = MakeRegion("shared", "");
  const auto one = Make(Grants().Add(shared, RegionAccess::kReadWrite));
  const auto other = Make(Grants().Add(shared, RegionAccess::kRead));
  ASSERT_TRUE(Poke(*one, *shared, 'x').ok());
  EXPECT_EQ(Peek(*other, *shared), 'x');
}

TEST_F(CompartmentTest, APageThatNobodyHasLiesBehindARegion) {
  const auto first = MakeRegion("first", "", 8192), second = MakeRegion("second", "");
  const auto compartment =
      Make(Grants().Add(first, RegionAccess::kRead).Add(second, RegionAccess::kRead));
  EXPECT_EQ(
      Value<long(Byte, long)>(*compartment, "sum", first->guest<const unsigned char>(), 8192l), 0);
  EXPECT_FALSE(
      Call<long(Byte, long)>(*compartment, "sum", first->guest<const unsigned char>(), 8193l).ok());
  ASSERT_EQ(compartment->faults().size(), 1u);
  EXPECT_EQ(compartment->faults()[0].address, first->address() + 8192);
  EXPECT_EQ(compartment->faults()[0].name, "");
}

TEST_F(CompartmentTest, CannotChangeTheMappingOfARegion) {
  const auto open = MakeRegion("open", "o"), secret = MakeRegion("secret", "s");
  const auto compartment = Make(Grants().Add(open, RegionAccess::kRead));
  for (const auto& region : {open, secret}) {
    const auto at = region->guest<void>();
    EXPECT_EQ(Value<long(void*, long)>(*compartment, "make_writable", at, 4096l), -EPERM);
    EXPECT_EQ(Value<long(void*, long)>(*compartment, "unmap", at, 4096l), -EPERM);
    EXPECT_EQ(Value<long(void*, long)>(*compartment, "map_over", at, 4096l), -EPERM);
  }
  EXPECT_FALSE(Poke(*compartment, *open, 'x').ok());
  EXPECT_EQ(At(*open, 0), 'o');
}

TEST_F(CompartmentTest, NothingInARegionIsExecuted) {
  const auto code = MakeRegion("code", "\xc3");
  const auto compartment = Make(Grants().Add(code, RegionAccess::kReadWrite));
  EXPECT_FALSE(
      Call<void(void (*)())>(*compartment, "jump", FunctionPointer<void()>(code->address())).ok());
  EXPECT_THAT(Texts(*compartment), ElementsAre("execution of region 'code' at offset 0x0"));
}

TEST_F(CompartmentTest, SystemCallsReachNoMoreMemory) {
  const auto secret = MakeRegion("secret", "s");
  const auto compartment = Make(Grants());
  EXPECT_EQ(Value<long(int, const void*, long)>(*compartment, "write_to", 1,
                                                secret->guest<const void>(), 4l),
            -EFAULT);
  EXPECT_EQ(compartment->TakeOutput(), "");
  EXPECT_THAT(Texts(*compartment), ElementsAre("read of region 'secret' at offset 0x0"));
}

TEST_F(CompartmentTest, HasMemoryOfItsOwnWhichARecycleTakesBack) {
  const auto one = Make(Grants()), other = Make(Grants());
  EXPECT_EQ(Value<int()>(*one, "next"), 1);
  EXPECT_EQ(Value<int()>(*one, "next"), 2);
  EXPECT_EQ(Value<int()>(*other, "next"), 1);
  ASSERT_TRUE(one->Recycle().ok());
  EXPECT_EQ(Value<int()>(*one, "next"), 1);
}

// ---- descriptors and calls

TEST_F(CompartmentTest, UsesDescriptorsAsGranted) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  const auto buffer = MakeRegion("buffer", "text");
  const auto compartment = Make(Grants()
                                    .Add(buffer, RegionAccess::kReadWrite)
                                    .Add(*Descriptor::Of(ends[0], 5, DescriptorAccess::kReadWrite))
                                    .Add(*Descriptor::Of(ends[0], 6, DescriptorAccess::kRead)));
  using Write = long(int, const void*, long);
  const auto at = buffer->guest<void>();
  EXPECT_EQ(Value<Write>(*compartment, "write_to", 5, at, 4l), 4);
  EXPECT_EQ(Value<Write>(*compartment, "write_to", 6, at, 4l), -EBADF);
  EXPECT_EQ(Value<Write>(*compartment, "write_to", ends[0], at, 4l), -EBADF);
  char text[8];
  ASSERT_EQ(read(ends[1], text, sizeof(text)), 4);
  ASSERT_EQ(write(ends[1], "answer", 6), 6);
  EXPECT_EQ((Value<long(int, void*, long)>(*compartment, "read_from", 6, at, 6l)), 6);
  EXPECT_EQ(At(*buffer, 5), 'r');
  // A copy under another number goes with the grant.
  const long copy = Value<long(int)>(*compartment, "duplicate", 5);
  ASSERT_GE(copy, 0);
  EXPECT_EQ(Value<Write>(*compartment, "write_to", static_cast<int>(copy), at, 1l), 1);
  ASSERT_TRUE(compartment->Narrow(Grants().Add(buffer, RegionAccess::kRead)).ok());
  EXPECT_EQ(Value<Write>(*compartment, "write_to", static_cast<int>(copy), at, 1l), -EBADF);
  EXPECT_EQ(Value<Write>(*compartment, "write_to", 5, at, 1l), -EBADF);
  // Another life may have another.
  ASSERT_TRUE(
      compartment->RecycleFor({*Descriptor::Of(ends[0], 5, DescriptorAccess::kWrite)}).ok());
  EXPECT_EQ(Value<Write>(*compartment, "write_to", 5, at, 1l), 1);
  close(ends[0]);
  close(ends[1]);
}

TEST_F(CompartmentTest, APeerThatIsGoneIsAnErrorAndNoSignal) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  close(ends[1]);
  const auto buffer = MakeRegion("buffer", "text");
  const auto compartment = Make(Grants()
                                    .Add(buffer, RegionAccess::kRead)
                                    .Add(*Descriptor::Of(ends[0], 5, DescriptorAccess::kWrite)));
  EXPECT_EQ(Value<long(int, const void*, long)>(*compartment, "write_to", 5,
                                                buffer->guest<const void>(), 4l),
            -EPIPE);
  close(ends[0]);
}

struct GroupCase {
  CallGroup group;
  const char* function;
};
constexpr GroupCase kGroupCases[] = {{CallGroup::kThreads, "start_thread"},
                                     {CallGroup::kSignals, "handle_signal"},
                                     {CallGroup::kTime, "look_at_clock"},
                                     {CallGroup::kRandom, "draw"},
                                     {CallGroup::kSystem, "look_at_machine"}};

TEST_F(CompartmentTest, MakesTheSystemCallsOfItsGroupsOnly) {
  for (const GroupCase& row : kGroupCases) {
    const bool needs_translator = row.group == CallGroup::kThreads || row.group == CallGroup::kSignals;
    if (IsByRing0() && needs_translator) {
      EXPECT_EQ(Compartment::Create(Code(), Grants().Add(row.group)).status().code(),
                absl::StatusCode::kUnimplemented);
      continue;
    }
    const auto with = Make(Grants().Add(row.group)), without = Make(Grants());
    EXPECT_GE(Value<long()>(*with, row.function), 0) << row.function;
    EXPECT_LT(Value<long()>(*without, row.function), 0) << row.function;
    // The C library may ask for more on the way, as pthread_create does for a handler.
    const auto of_group = testing::Contains(testing::Field(&AccessFault::group, row.group));
    EXPECT_THAT(with->faults(), testing::Not(of_group)) << row.function;
    EXPECT_THAT(without->faults(), of_group) << row.function;
  }
}

TEST_F(CompartmentTest, OpensFilesOnlyWithTheGroup) {
  const auto with = Make(Grants().Add(CallGroup::kFiles)), without = Make(Grants());
  const auto open = [](Compartment& where, const char* path) {
    const auto text = *where.MakeString(path);
    return Value<long(const char*)>(where, "open_file", text.guest());
  };
  EXPECT_GE(open(*with, "/etc/ld.so.cache"), 0);
  EXPECT_EQ(open(*with, "/etc/passwd"), -EACCES);
  EXPECT_EQ(open(*without, "/etc/ld.so.cache"), -EPERM);
  EXPECT_THAT(Texts(*without), ElementsAre("system call openat (calls files)"));
}

TEST_F(CompartmentTest, PrintsWithoutLookingAtItsDescriptor) {
  const auto compartment = Make(Grants());
  EXPECT_TRUE(Call<void()>(*compartment, "say").ok());
  EXPECT_EQ(compartment->TakeOutput(), "said\n");
  EXPECT_THAT(Texts(*compartment), ElementsAre("system call newfstatat (calls files)"));
}

TEST_F(CompartmentTest, EachCallOfAPluginsIsInAGroup) {
  const std::set<std::string> calls = {
#define PLUGIN_CALL(name, handler) #name,
#include "sandbox/plugin/calls.inc"
#undef PLUGIN_CALL
  };
  for (const std::string& name : calls) {
    EXPECT_NE(compartment::NeedOf(hostcalls::FindRow(name)->number).kind,
              compartment::CallNeed::Kind::kNever)
        << name;
  }
  for (const hostcalls::Row& row : hostcalls::AllRows()) {
    const bool is_there =
        compartment::NeedOf(row.number).kind != compartment::CallNeed::Kind::kNever;
    EXPECT_EQ(is_there, calls.contains(row.name)) << row.name;
  }
}

// ---- gates

TEST_F(CompartmentTest, AGateToTheHostHasAnArgumentOfItsOwn) {
  const auto gate = Gate::ToHost<long(Byte, long)>(
      "sign", std::string("trusted"),
      [](const std::string& trusted, Compartment& caller, TaintedPtr<const unsigned char> text,
         Tainted<long> size) -> long {
        const auto checked = size.Within(0, 16);
        if (!checked.ok()) return -1;
        const auto bytes = caller.CopyIn(text, static_cast<std::size_t>(*checked));
        return bytes.ok() ? static_cast<long>(trusted.size() + bytes->size()) : -2;
      });
  const auto secret = MakeRegion("secret", "s");
  const auto compartment = Make(Grants().Add(gate));
  const auto text = *compartment->MakeString("1234");
  using Use = long(Byte, long);
  const auto at = text.guest().Cast<const unsigned char>();
  EXPECT_EQ(Value<Use>(*compartment, "use_sign", at, 4l), 11);
  EXPECT_EQ(Value<Use>(*compartment, "use_sign", at, 17l), -1);
  // The host does not read for it what it could not read itself.
  EXPECT_EQ(Value<Use>(*compartment, "use_sign", secret->guest<const unsigned char>(), 4l), -2);
}

TEST_F(CompartmentTest, AGateThatWasNotGrantedEndsTheCompartment) {
  const auto compartment = Make(Grants());
  const auto refused = Call<long(Byte, long)>(*compartment, "use_sign", nullptr, 4l);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(refused.status().message(), HasSubstr("not granted: gate 'sign'"));
  EXPECT_THAT(Texts(*compartment), ElementsAre("gate 'sign'"));
  ASSERT_TRUE(compartment->Recycle().ok());
  // There are two gates only.
  EXPECT_FALSE(Call<long(long)>(*compartment, "use_next_gate", 1l).ok());
}

TEST_F(CompartmentTest, AGateIntoAnotherCompartmentHasThatOnesRights) {
  // NOLINTNEXTLINE(modernize-raw-string-literal): numbers
  const auto secret = MakeRegion("secret", "\x40"), text = MakeRegion("text", "\x01\x02");
  const auto keeper =
      Make(Grants().Add(secret, RegionAccess::kRead).Add(text, RegionAccess::kRead));
  auto gate =
      Gate::Into("sign", keeper, "keeper", secret->address(), static_cast<std::uint64_t>(-7));
  ASSERT_TRUE(gate.ok()) << gate.status();
  const auto user = Make(Grants().Add(text, RegionAccess::kReadWrite).Add(*gate));
  using Use = long(Byte, long);
  EXPECT_EQ(Value<Use>(*user, "use_sign", text->guest<const unsigned char>(), 2l), 0x43);
  EXPECT_FALSE(Call<int(Byte)>(*user, "peek", secret->guest<const unsigned char>()).ok());
  ASSERT_TRUE(user->Recycle().ok());
  // What the other cannot read ends the other, and its caller hears so.
  const auto own = *user->MakeString("");
  EXPECT_EQ(Value<Use>(*user, "use_sign", TaintedPtr<const unsigned char>(16), 2l), -7);
  EXPECT_TRUE(keeper->failure().has_value());
  EXPECT_FALSE(user->failure().has_value());
  ASSERT_TRUE(keeper->Recycle().ok());
  EXPECT_EQ(Value<Use>(*user, "use_sign", text->guest<const unsigned char>(), 2l), 0x43);
}

TEST_F(CompartmentTest, AGateThatTheCodeDoesNotHaveIsRefused) {
  const auto gate =
      Gate::ToHost<long(long)>("other", 0, [](int, Compartment&, Tainted<long>) { return 0l; });
  EXPECT_EQ(Compartment::Create(Code(), Grants().Add(gate)).status().code(),
            absl::StatusCode::kInvalidArgument);
}

// ---- narrowing

TEST_F(CompartmentTest, RightsOnlyShrink) {
  const auto region = MakeRegion("region", "r"), other = MakeRegion("other", "o");
  const auto lend = Gate::ToHost<long(long)>(
      "lend", 1l,
      [](long by, Compartment&, Tainted<long> value) { return value.UnverifiedValue() + by; });
  const auto same_name = Gate::ToHost<long(long)>(
      "lend", 2l,
      [](long by, Compartment&, Tainted<long> value) { return value.UnverifiedValue() + by; });
  const auto compartment =
      Make(Grants().Add(region, RegionAccess::kReadWrite).Add(CallGroup::kTime).Add(lend));
  EXPECT_EQ(Value<long(long)>(*compartment, "use_lend", 41l), 42);
  const absl::Status more = compartment->Narrow(
      Grants().Add(other, RegionAccess::kRead).Add(CallGroup::kRandom).Add(same_name));
  EXPECT_EQ(more.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(more.message(), HasSubstr("region other: read; calls random; gate lend"));
  EXPECT_TRUE(Poke(*compartment, *region, 'x').ok());

  ASSERT_TRUE(compartment->Narrow(Grants().Add(region, RegionAccess::kRead)).ok());
  EXPECT_THAT(compartment->grants().Lines(), ElementsAre("region region: read"));
  EXPECT_EQ(Peek(*compartment, *region), 'x');
  EXPECT_EQ(Value<long()>(*compartment, "look_at_clock"), -EPERM);
  EXPECT_FALSE(Call<long(long)>(*compartment, "use_lend", 41l).ok());
  // Nor does a recycle bring them back, or what was had before.
  ASSERT_TRUE(compartment->Recycle().ok());
  EXPECT_FALSE(Poke(*compartment, *region, 'y').ok());
  EXPECT_EQ(At(*region, 0), 'x');
  EXPECT_EQ(compartment->Narrow(Grants().Add(region, RegionAccess::kReadWrite)).code(),
            absl::StatusCode::kPermissionDenied);
  ASSERT_TRUE(compartment->Recycle().ok());
  ASSERT_TRUE(compartment->Narrow(Grants()).ok());
  EXPECT_FALSE(Call<int(Byte)>(*compartment, "peek", region->guest<const unsigned char>()).ok());
}

TEST_F(CompartmentTest, NarrowingReachesACallUnderWay) {
  const auto counted = MakeRegion("counted", std::string(8, '\0'));
  auto& count = *reinterpret_cast<std::atomic<std::uint64_t>*>(counted->span().data());
  for (const bool to_read : {false, true}) {
    const auto compartment = Make(Grants().Add(counted, RegionAccess::kReadWrite).Add(CallGroup::kTime));
    absl::Status ended;
    std::thread call([&] {
      ended = Call<void(unsigned long*)>(*compartment, "count_up", counted->guest<unsigned long>());
    });
    for (const std::uint64_t before = count; count == before;) std::this_thread::yield();
    Grants less = Grants().Add(CallGroup::kTime);
    if (to_read) less.Add(counted, RegionAccess::kRead);
    EXPECT_TRUE(compartment->Narrow(less).ok());
    const std::uint64_t then = count;
    call.join();
    EXPECT_EQ(count, then);
    const std::optional<Failure> failure = FailureOf(ended);
    ASSERT_TRUE(failure.has_value()) << ended;
    // An addition reads first, where it is one instruction or two.
    EXPECT_THAT(failure->missing_grant, testing::AnyOf("write of region 'counted' at offset 0x0",
                                                       "read of region 'counted' at offset 0x0"));
  }
  const auto compartment = Make(Grants().Add(CallGroup::kTime));
  std::atomic<long> refused{0};
  std::thread call([&] { refused = Value<long()>(*compartment, "ask_until_refused"); });
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_EQ(refused, 0);
  EXPECT_TRUE(compartment->Narrow(Grants()).ok());
  call.join();
  EXPECT_EQ(refused, -EPERM);
}

TEST_F(CompartmentTest, AChildHasNoMoreThanItsParent) {
  const auto region = MakeRegion("region", "r");
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const auto parent = Make(Grants().Add(region, RegionAccess::kCopyOnWrite));
  EXPECT_EQ(Value<int()>(*parent, "next"), 1);
  EXPECT_EQ(parent->CreateChild(Grants().Add(region, RegionAccess::kReadWrite)).status().code(),
            absl::StatusCode::kPermissionDenied);
  const auto child = parent->CreateChild(Grants().Add(region, RegionAccess::kRead));
  ASSERT_TRUE(child.ok()) << child.status();
  EXPECT_EQ(Peek(**child, *region), 'r');
  EXPECT_EQ(Value<int()>(**child, "next"), 1);
  EXPECT_EQ((*child)->RecycleFor({*Descriptor::Of(ends[0], 5, DescriptorAccess::kRead)}).code(),
            absl::StatusCode::kPermissionDenied);
  EXPECT_FALSE(Poke(**child, *region, 'x').ok());
  close(ends[0]);
  close(ends[1]);
}

// ---- learning

TEST_F(CompartmentTest, LearnsTheLeastThatWillDo) {
  const auto read = MakeRegion("read", "r"), written = MakeRegion("written", "w"),
             unused = MakeRegion("unused", "u"), kernels = MakeRegion("kernels", "k"),
             hidden = MakeRegion("hidden", "h");
  const auto lend = Gate::ToHost<long(long)>(
      "lend", 1l,
      [](long by, Compartment&, Tainted<long> value) { return value.UnverifiedValue() + by; });
  const auto compartment = Make(Grants()
                                    .Add(read, RegionAccess::kReadWrite)
                                    .Add(written, RegionAccess::kReadWrite)
                                    .Add(unused, RegionAccess::kReadWrite)
                                    .Add(kernels, RegionAccess::kReadWrite)
                                    .Add(CallGroup::kTime)
                                    .Add(CallGroup::kRandom)
                                    .Add(lend),
                                Compartment::Mode::kLearn);
  EXPECT_THAT(compartment->Learned().Lines(), IsEmpty());
  EXPECT_EQ(Peek(*compartment, *read), 'r');
  EXPECT_EQ(Peek(*compartment, *written), 'w');
  EXPECT_TRUE(Poke(*compartment, *written, 'W').ok());
  EXPECT_EQ(At(*written, 0), 'W');
  EXPECT_EQ(Value<long(int, const void*, long)>(*compartment, "write_to", 1,
                                                kernels->guest<const void>(), 1l),
            1);
  EXPECT_EQ(Value<long()>(*compartment, "look_at_clock"), 0);
  EXPECT_EQ(Value<long(long)>(*compartment, "use_lend", 1l), 2);
  EXPECT_THAT(compartment->Learned().Lines(),
              UnorderedElementsAre("region read: read", "region written: read-write",
                                   "region kernels: read", "calls time", "gate lend"));
  EXPECT_THAT(compartment->faults(), IsEmpty());
  // What was not offered is refused.
  EXPECT_FALSE(Call<int(Byte)>(*compartment, "peek", hidden->guest<const unsigned char>()).ok());
  // And what was learnt is enough.
  const auto next = Make(compartment->Learned());
  EXPECT_EQ(Peek(*next, *read), 'r');
  EXPECT_TRUE(Poke(*next, *written, 'x').ok());
  EXPECT_THAT(next->Learned().Lines(), IsEmpty());
  EXPECT_EQ(Value<long()>(*next, "look_at_clock"), 0);
}

// ---- code

TEST_F(CompartmentTest, LearnsWhatIsMadeOfDescriptors) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  ASSERT_EQ(write(ends[1], "word", 4), 4);
  const auto buffer = MakeRegion("buffer", "text");
  const auto offered = [&](int number) { return *Descriptor::Of(ends[0], number, DescriptorAccess::kReadWrite); };
  const auto compartment = Make(
      Grants().Add(buffer, RegionAccess::kReadWrite).Add(offered(5)).Add(offered(6)).Add(offered(7)).Add(offered(8)),
      Compartment::Mode::kLearn);
  EXPECT_THAT(compartment->Learned().Lines(), IsEmpty());
  const auto at = buffer->guest<void>();
  EXPECT_EQ((Value<long(int, void*, long)>(*compartment, "read_from", 5, at, 1l)), 1);
  EXPECT_EQ((Value<long(int, const void*, long)>(*compartment, "write_to", 6, at, 1l)), 1);
  EXPECT_EQ((Value<long(int, void*, long)>(*compartment, "read_from", 7, at, 1l)), 1);
  ASSERT_TRUE(compartment->Recycle().ok());
  // By a copy, in another life.
  const long copy = Value<long(int)>(*compartment, "duplicate", 7);
  EXPECT_EQ((Value<long(int, const void*, long)>(*compartment, "write_to", static_cast<int>(copy), at, 1l)), 1);
  EXPECT_THAT(compartment->Learned().Lines(),
              UnorderedElementsAre("region buffer: read-write", "descriptor 5: read", "descriptor 6: write",
                                   "descriptor 7: read, write"));
  const auto next = Make(compartment->Learned());
  EXPECT_EQ((Value<long(int, void*, long)>(*next, "read_from", 5, at, 1l)), 1);
  EXPECT_EQ((Value<long(int, const void*, long)>(*next, "write_to", 5, at, 1l)), -EBADF);
  EXPECT_EQ((Value<long(int, void*, long)>(*next, "read_from", 8, at, 1l)), -EBADF);
  close(ends[0]);
  close(ends[1]);
}

TEST_F(CompartmentTest, WhatInitialisesCodeIsNotLeftInIt) {
  const auto secret = MakeRegion("secret", "s");
  CodeOptions options{.libraries = {COMPARTMENT_CASES}, .engine = engine};
  options.grants.Add(secret, RegionAccess::kRead);
  options.initialize = [&](Compartment& original) {
    EXPECT_EQ(Peek(original, *secret), 's');
    EXPECT_GE(Value<long()>(original, "draw"), 0);
    return Call<int()>(original, "next").status();
  };
  const auto code = CompartmentCode::Load(std::move(options));
  ASSERT_TRUE(code.ok()) << code.status();
  const auto compartment = Compartment::Create(*code, Grants());
  ASSERT_TRUE(compartment.ok()) << compartment.status();
  EXPECT_EQ(Value<int()>(**compartment, "next"), 2);
  EXPECT_EQ(Value<long()>(**compartment, "draw"), -EPERM);
  EXPECT_FALSE(Call<int(Byte)>(**compartment, "peek", secret->guest<const unsigned char>()).ok());
}

TEST_F(CompartmentTest, WhatCannotBeHadIsRefused) {
  CodeOptions kvm{.libraries = {COMPARTMENT_CASES}};
  kvm.policy.engine = Engine::kKvm;
  EXPECT_EQ(CompartmentCode::Load(std::move(kvm)).status().code(),
            absl::StatusCode::kUnimplemented);
  CodeOptions machine{.libraries = {COMPARTMENT_CASES}};
  machine.policy.least_isolation = LeastIsolation::kVirtualMachine;
  EXPECT_EQ(CompartmentCode::Load(std::move(machine)).status().code(),
            absl::StatusCode::kUnimplemented);
  CodeOptions two_walls{.libraries = {COMPARTMENT_CASES}};
  two_walls.policy.demand = Demand::kTwoWalls;
  EXPECT_EQ(CompartmentCode::Load(std::move(two_walls)).status().code(),
            absl::StatusCode::kUnimplemented);
  EXPECT_EQ(CompartmentCode::Load({.libraries = {COMPARTMENT_CASES}, .gates = {"no_such_gate"}})
                .status()
                .code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(
      CompartmentCode::Load({.libraries = {COMPARTMENT_CASES}, .gates = {"next"}}).status().code(),
      absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Region::Create("", 1).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Region::Create("two\nlines", 1).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Region::Create("large", std::size_t{1} << 30).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST_F(CompartmentTest, ThreadsMakeAndRecycleTheirOwn) {
  const auto shared = MakeRegion("shared", "s");
  constexpr int kThreads = 4;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      const auto compartment = Make(Grants().Add(shared, RegionAccess::kCopyOnWrite));
      for (int round = 0; round < 20; ++round) {
        EXPECT_EQ(Peek(*compartment, *shared), 's');
        EXPECT_TRUE(Poke(*compartment, *shared, 'x').ok());
        EXPECT_EQ(Value<int()>(*compartment, "next"), 1);
        EXPECT_TRUE(compartment->Recycle().ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Each thread's grants, calls, ends and recycling meet those of the others in the same compartments.
TEST_F(CompartmentTest, ThreadsUseEachOthers) {
  constexpr int kThreads = 4, kRounds = 25;
  const auto shared = MakeRegion("shared", "s"), secret = MakeRegion("secret", "t");
  std::vector<std::shared_ptr<Compartment>> made(kThreads);
  std::vector<std::thread> threads;
  threads.reserve(made.size());
  for (auto& compartment : made) {
    threads.emplace_back([&] { compartment = Make(Grants().Add(shared, RegionAccess::kRead)); });
  }
  for (std::thread& thread : threads) thread.join();
  threads.clear();
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int round = 0; round < kRounds; ++round) {
        Compartment& compartment = *made[static_cast<std::size_t>(thread + round) % kThreads];
        const auto seen = Call<int(Byte)>(compartment, "peek", shared->guest<const unsigned char>());
        // Another thread has just ended it, by what it may not do; or nobody has.
        if (seen.ok()) {
          EXPECT_EQ(seen->UnverifiedValue(), 's');
        } else {
          const std::optional<Failure> why = FailureOf(seen.status());
          ASSERT_TRUE(why.has_value()) << seen.status();
          EXPECT_EQ(why->missing_grant, "read of region 'secret' at offset 0x0") << seen.status();
        }
        if (round % 5 == thread) {
          EXPECT_FALSE(Call<int(Byte)>(compartment, "peek", secret->guest<const unsigned char>()).ok());
        }
        const absl::Status recycled = compartment.Recycle();
        EXPECT_TRUE(recycled.ok() || recycled.code() == absl::StatusCode::kFailedPrecondition) << recycled;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& compartment : made) {
    ASSERT_TRUE(compartment->Recycle().ok());
    EXPECT_EQ(Peek(*compartment, *shared), 's');
    EXPECT_EQ(Value<int()>(*compartment, "next"), 1);
  }
}

// ---- engines

TEST_F(CompartmentTest, SaysWhatKeepsIt) {
  const auto compartment = Make(Grants());
  EXPECT_EQ(compartment->engine(), IsByRing0() ? "ring 0" : "jit");
  EXPECT_EQ(compartment->isolation(), IsByRing0() ? "page table" : "seg");
}

TEST_F(CompartmentTest, Ring0ThatIsAskedForIsHadOrAnError) {
  if (IsByRing0()) {
    // Plugins are not for threads that are in it.
    EXPECT_EQ(Sandbox::Create(Policy{}).status().code(), absl::StatusCode::kFailedPrecondition);
    CodeOptions budget{.libraries = {COMPARTMENT_CASES}, .engine = CompartmentEngine::kRing0};
    budget.policy.cpu_budget = absl::Seconds(1);
    EXPECT_EQ(CompartmentCode::Load(std::move(budget)).status().code(), absl::StatusCode::kUnimplemented);
    const auto code = CompartmentCode::Load({.libraries = {COMPARTMENT_CASES}});
    ASSERT_TRUE(code.ok()) << code.status();
    EXPECT_EQ((*Compartment::Create(*code, Grants()))->engine(), "ring 0");
    EXPECT_EQ(CompartmentCode::Load({.libraries = {COMPARTMENT_CASES}, .engine = CompartmentEngine::kTranslator})
                  .status()
                  .code(),
              absl::StatusCode::kFailedPrecondition);
    return;
  }
  const auto code =
      CompartmentCode::Load({.libraries = {COMPARTMENT_CASES}, .engine = CompartmentEngine::kRing0});
  EXPECT_EQ(code.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(code.status().message(), HasSubstr("dune::Enter"));
}

// A thread that is not in ring 0 is told so, and changes nothing.
TEST_F(CompartmentTest, OnlyThreadsInRing0UseWhatRing0Keeps) {
  if (!IsByRing0()) GTEST_SKIP() << "compartments by ring 0 are tested in the lab (lab.dune.compartments)";
  const auto region = MakeRegion("region", "r");
  const auto compartment = Make(Grants().Add(region, RegionAccess::kReadWrite));
  constexpr auto kRefused = absl::StatusCode::kFailedPrecondition;
  std::thread([&] {
    ASSERT_TRUE(dune::Leave().ok());
    EXPECT_EQ(Call<int()>(*compartment, "next").status().code(), kRefused);
    EXPECT_EQ(compartment->Narrow(Grants()).code(), kRefused);
    EXPECT_EQ(compartment->Recycle().code(), kRefused);
    EXPECT_EQ(Compartment::Create(Code(), Grants()).status().code(), kRefused);
  }).join();
  EXPECT_EQ(Peek(*compartment, *region), 'r');
}

// ---- victims: what has been taken over

TEST_F(CompartmentTest, PrivilegedInstructionsEndIt) {
  for (int which = 0; which < 13; ++which) {
    const auto compartment = Make(Grants());
    const auto refused = Call<void(int)>(*compartment, "privileged", which);
    ASSERT_FALSE(refused.ok()) << which;
    const std::optional<Failure> failure = FailureOf(refused);
    ASSERT_TRUE(failure.has_value()) << which << refused;
    EXPECT_TRUE(failure->signal == SIGSEGV || failure->signal == SIGILL) << which << refused;
    ASSERT_TRUE(compartment->Recycle().ok());
    EXPECT_EQ(Value<int()>(*compartment, "next"), 1);
  }
}

TEST_F(CompartmentTest, WhatNeverReturnsIsEnded) {
  CodeOptions options{.libraries = {COMPARTMENT_CASES}, .engine = engine};
  options.policy.deadline = absl::Milliseconds(300);
  const auto code = CompartmentCode::Load(std::move(options));
  ASSERT_TRUE(code.ok()) << code.status();
  const auto compartment = *Compartment::Create(*code, Grants());
  const auto ended = Call<void()>(*compartment, "spin");
  EXPECT_EQ(ended.code(), absl::StatusCode::kDeadlineExceeded) << ended;
  ASSERT_TRUE(compartment->failure().has_value());
  EXPECT_EQ(compartment->failure()->kind, Failure::Kind::kTimeout);
  ASSERT_TRUE(compartment->Recycle().ok());
  EXPECT_EQ(Value<int()>(*compartment, "next"), 1);
}

TEST_F(CompartmentTest, ACorruptedStackEndsIt) {
  for (const char* const way : {"smash_return", "unbalance", "lose_stack"}) {
    const auto compartment = Make(Grants());
    EXPECT_FALSE(Call<void()>(*compartment, way).ok()) << way;
    EXPECT_TRUE(compartment->failure().has_value()) << way;
    ASSERT_TRUE(compartment->Recycle().ok());
    EXPECT_EQ(Value<int()>(*compartment, "next"), 1) << way;
  }
  const auto compartment = Make(Grants());
  EXPECT_EQ(Value<long(long)>(*compartment, "deepen", 100l), 0);
  EXPECT_FALSE(Call<long(long)>(*compartment, "deepen", 1'000'000l).ok());
}

TEST_F(CompartmentTest, BadPointersOfSystemCallsAreErrors) {
  const auto read_only = MakeRegion("read_only", "r");
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  ASSERT_EQ(write(ends[1], "secret", 6), 6);
  const auto compartment = Make(Grants()
                                    .Add(read_only, RegionAccess::kRead)
                                    .Add(*Descriptor::Of(ends[0], 5, DescriptorAccess::kRead))
                                    .Add(*Descriptor::Of(ends[1], 6, DescriptorAccess::kWrite)));
  using Transfer = long(int, void*, long);
  EXPECT_EQ(Value<Transfer>(*compartment, "read_from", 5, read_only->guest<void>(), 6l), -EFAULT);
  EXPECT_EQ(At(*read_only, 0), 'r');
  for (const std::uint64_t bad : {std::uint64_t{0}, std::uint64_t{0xffff'f000}}) {
    EXPECT_EQ(Value<Transfer>(*compartment, "read_from", 5, TaintedPtr<void>(bad), 6l), -EFAULT) << bad;
    EXPECT_EQ(Value<Transfer>(*compartment, "write_to", 6, TaintedPtr<void>(bad), 6l), -EFAULT) << bad;
  }
  EXPECT_EQ(Value<Transfer>(*compartment, "write_to", 6, read_only->guest<void>(), -1l), 4096);
  using Parts = long(int, const void*, const void*, long);
  EXPECT_EQ(Value<Parts>(*compartment, "send_parts", 6, read_only->guest<const void>(),
                         TaintedPtr<const void>(std::uint64_t{0x0e00'0000}), 2l),
            2);
  EXPECT_FALSE(compartment->failure().has_value());
  close(ends[0]);
  close(ends[1]);
}

TEST_F(CompartmentTest, ReachesNothingOfTheHostsAddresses) {
  if (!IsByRing0()) GTEST_SKIP() << "the translator's compartments lose the upper half of an address; tested in the lab";
  static int on_data = 1;
  int on_stack = 1;
  const auto on_heap = std::make_unique<int>(1);
  const auto address = [](const void* at) { return reinterpret_cast<std::uint64_t>(at); };
  const std::uint64_t places[] = {address(&on_data),
                                  address(&on_stack),
                                  address(on_heap.get()),
                                  address(reinterpret_cast<const void*>(&read)),
                                  0xffff'ff80'0000'0000,  // ring 0's stubs
                                  0xffff'ff80'0001'0000,  // its state
                                  0xffff'8000'0000'0000,
                                  0x8000'0000'0000'0000};
  for (const std::uint64_t place : places) {
    const auto compartment = Make(Grants());
    EXPECT_FALSE(Call<int(Byte)>(*compartment, "peek", TaintedPtr<const unsigned char>(place)).ok()) << place;
    ASSERT_TRUE(compartment->Recycle().ok());
    EXPECT_FALSE(
        (Call<void(unsigned char*, int)>(*compartment, "poke", TaintedPtr<unsigned char>(place), 7).ok()));
    ASSERT_TRUE(compartment->Recycle().ok());
    EXPECT_FALSE(Call<void(void (*)())>(*compartment, "jump", FunctionPointer<void()>(place)).ok());
    ASSERT_TRUE(compartment->Recycle().ok());
    EXPECT_EQ(Value<long(int, const void*, long)>(*compartment, "write_to", 1, TaintedPtr<const void>(place), 4l),
              -EFAULT);
  }
  EXPECT_EQ(on_data + on_stack + *on_heap, 3);
}

TEST_F(CompartmentTest, ABaseOfTheKernelsEndsIt) {
  if (!IsByRing0()) GTEST_SKIP() << "compartments by ring 0 are tested in the lab (lab.dune.compartments)";
  const auto compartment = Make(Grants());
  EXPECT_FALSE(Call<void()>(*compartment, "take_kernels_base").ok());
  ASSERT_TRUE(compartment->Recycle().ok());
  EXPECT_EQ(Value<int()>(*compartment, "next"), 1);
}

TEST_F(CompartmentTest, WhatOnePatchesIsItsOwn) {
  if (!IsByRing0()) GTEST_SKIP() << "compartments by ring 0 are tested in the lab (lab.dune.compartments)";
  const auto one = Make(Grants()), other = Make(Grants());
  ASSERT_EQ(Value<long()>(*one, "patch_answer"), 0);
  EXPECT_EQ(Value<int()>(*one, "answer"), 7);
  EXPECT_EQ(Value<int()>(*other, "answer"), 42);
  ASSERT_TRUE(one->Recycle().ok());
  EXPECT_EQ(Value<int()>(*one, "answer"), 42);
  EXPECT_EQ(Value<int()>(*Make(Grants()), "answer"), 42);
}

// ---- memory of its own

TEST_F(CompartmentTest, HasTheMemoryThatItsLimitLeaves) {
  const auto compartment = Make(Grants());
  EXPECT_EQ(Value<long(long)>(*compartment, "fill", 1000l), 2);
  EXPECT_EQ(Value<long(long)>(*compartment, "fill", 8l << 20), 2);
  EXPECT_EQ((Value<long(long, long)>(*compartment, "grow", 300'000l, 10l)), 1);
  EXPECT_EQ(Value<long(long)>(*compartment, "fill", 128l << 20), -ENOMEM);
  EXPECT_EQ(Value<long(long)>(*compartment, "fill", 8l << 20), 2);
}

// Neither the host nor another compartment ends with the one that takes all there is.
TEST_F(CompartmentTest, WhatUsesUpAllFramesEndsAlone) {
  if (!IsByRing0()) GTEST_SKIP() << "compartments by ring 0 are tested in the lab (lab.dune.compartments)";
  const auto region = MakeRegion("region", "r");
  const auto code = CompartmentCode::Load({.libraries = {COMPARTMENT_CASES}, .engine = engine});
  ASSERT_TRUE(code.ok()) << code.status();
  const auto other = Make(Grants().Add(region, RegionAccess::kReadWrite));
  EXPECT_EQ(Value<int()>(*other, "next"), 1);
  auto hungry = *Compartment::Create(*code, Grants());
  // By the policy's limit it may have them.
  EXPECT_FALSE(Call<long(long)>(*hungry, "fill", 300l << 20).ok());
  ASSERT_TRUE(hungry->failure().has_value());
  EXPECT_EQ(hungry->failure()->signal, SIGBUS);
  EXPECT_EQ(Value<int()>(*other, "next"), 2);
  // The host goes on, which takes frames itself: soon there is none for a recycle to end with, then none to begin with.
  constexpr std::size_t kPart = std::size_t{2} << 20, kParts = 60;
  auto* const fresh = static_cast<volatile char*>(
      mmap(nullptr, kParts * kPart, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  ASSERT_NE(fresh, MAP_FAILED);
  std::size_t refused = 0;
  for (std::size_t part = 0; part < kParts; ++part) {
    fresh[part * kPart] = 1;
    const absl::Status recycled = other->Recycle();
    if (recycled.ok()) continue;
    EXPECT_EQ(recycled.code(), absl::StatusCode::kResourceExhausted) << recycled;
    EXPECT_FALSE(Call<int()>(*other, "next").ok());
    EXPECT_FALSE(other->Allocate<unsigned char>(10).ok());
    EXPECT_FALSE(other->CopyIn(TaintedPtr<const unsigned char>(0x40'0000), 1).ok());
    if (++refused == 2) {
      EXPECT_TRUE(other->Narrow(Grants().Add(region, RegionAccess::kRead)).ok());
    }
  }
  EXPECT_GT(refused, 20u);
  EXPECT_EQ(Compartment::Create(Code(), Grants()).status().code(), absl::StatusCode::kResourceExhausted);
  hungry.reset();
  munmap(const_cast<char*>(fresh), kParts * kPart);
  ASSERT_TRUE(other->Recycle().ok());
  EXPECT_EQ(Value<int()>(*other, "next"), 1);
  EXPECT_EQ(Peek(*other, *region), 'r');
  EXPECT_FALSE(Poke(*other, *region, 'x').ok());
  EXPECT_EQ(At(*region, 0), 'r');
}

TEST_F(CompartmentTest, FloatingPointPassesTheWall) {
  const auto compartment = Make(Grants());
  EXPECT_EQ(Value<double(double)>(*compartment, "twice", 1.25), 2.5);
}

TEST_F(CompartmentTest, MemoryOfTheHostsIsBothSides) {
  const auto compartment = Make(Grants());
  auto memory = compartment->Allocate<unsigned char>(5000);
  ASSERT_TRUE(memory.ok()) << memory.status();
  memory->span()[4999] = 9;
  using Peek = int(Byte);
  EXPECT_EQ((Value<Peek>(*compartment, "peek", memory->guest().Cast<const unsigned char>() + 4999)), 9);
  ASSERT_TRUE((Call<void(unsigned char*, int)>(*compartment, "poke", memory->guest(), 8).ok()));
  EXPECT_EQ(memory->span()[0], 8);
  EXPECT_EQ(Value<long(void*, long)>(*compartment, "unmap",
                                     TaintedPtr<void>(memory->guest().address() & ~std::uint64_t{4095}), 4096l),
            -EPERM);
  ASSERT_TRUE(compartment->Recycle().ok());
  memory->span()[1] = 5;
  EXPECT_EQ((Value<Peek>(*compartment, "peek", memory->guest().Cast<const unsigned char>() + 1)), 5);
}

TEST_F(CompartmentTest, ManyAreMadeAndForgotten) {
  const auto region = MakeRegion("region", "r");
  for (int round = 0; round < 300; ++round) {
    const auto compartment = Make(Grants().Add(region, RegionAccess::kCopyOnWrite));
    EXPECT_EQ(Value<int()>(*compartment, "next"), 1);
    EXPECT_TRUE(Poke(*compartment, *region, 'x').ok());
  }
  EXPECT_EQ(At(*region, 0), 'r');
}

}  // namespace
}  // namespace dunebox

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  if (argc > 1 && std::string_view(argv[1]) == "--engine=ring0") {
    dunebox::engine = dunebox::CompartmentEngine::kRing0;
    const absl::Status entered = dune::Enter({.backend = dune::Wanted::kRing0, .frame_pool = std::size_t{64} << 20});
    if (!entered.ok()) {
      std::fprintf(stderr, "compartment_test: %s\n", entered.ToString().c_str());
      return 1;
    }
  }
  return RUN_ALL_TESTS();
}

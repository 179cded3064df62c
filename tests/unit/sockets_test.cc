#include "hostcalls/services/sockets.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

#include "services_fixture.h"

namespace dunebox::hostcalls {
namespace {

using policy::EndpointRule;
using policy::Reach;
using policy::Rules;

// A socket of the host's, outside the guest.
class HostSocket {
 public:
  explicit HostSocket(int type, const char* address = "127.0.0.1") : fd_(socket(AF_INET, type, 0)) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    inet_pton(AF_INET, address, &name.sin_addr);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&name), sizeof(name)), 0);
    if (type == SOCK_STREAM) listen(fd_, 100);
    socklen_t size = sizeof(name);
    getsockname(fd_, reinterpret_cast<sockaddr*>(&name), &size);
    port_ = ntohs(name.sin_port);
  }
  ~HostSocket() { close(fd_); }
  HostSocket(const HostSocket&) = delete;
  HostSocket& operator=(const HostSocket&) = delete;
  int fd() const { return fd_; }
  std::uint16_t port() const { return port_; }
  // Has anything arrived?
  bool IsQuiet() const {
    char byte = 0;
    return recv(fd_, &byte, 1, MSG_DONTWAIT) < 0;
  }

 private:
  int fd_;
  std::uint16_t port_ = 0;
};

sockaddr_in Address(std::uint16_t port, sa_family_t family = AF_INET,
                    const char* address = "127.0.0.1") {
  sockaddr_in name{};
  name.sin_family = family;
  name.sin_port = htons(port);
  inet_pton(AF_INET, address, &name.sin_addr);
  return name;
}

sockaddr_in6 Address6(std::uint16_t port, const char* address) {
  sockaddr_in6 name{};
  name.sin6_family = AF_INET6;
  name.sin6_port = htons(port);
  inet_pton(AF_INET6, address, &name.sin6_addr);
  return name;
}

EndpointRule Loopback(std::uint16_t port) {
  return {.address = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1},
          .prefix = 128,
          .first_port = port,
          .last_port = port};
}

class SocketsTest : public ServicesTest {
 protected:
  SocketsTest() {
    rules_.allow_all = false;
    rules_.network.reach = Reach::kListed;
    rules_.network.outbound = {Loopback(open_.port()), Loopback(open_udp_.port())};
  }
  ~SocketsTest() override {
    for (const int fd : sockets_) close(fd);
  }

  // From here on the rules count, as they are.
  void Enforce() {
    guard_.emplace(rules_, nullptr);
    thread_.guard = &*guard_;
  }
  std::int64_t Make(int domain, int type, int protocol = 0) {
    const std::int64_t fd = Call(SYS_socket, domain, type, protocol);
    if (fd >= 0) sockets_.push_back(static_cast<int>(fd));
    return fd;
  }
  template <typename T>
  std::int64_t WithName(long number, std::int64_t fd, const T& name) {
    return Call(number, fd, thread_.Put(name), sizeof(name));
  }
  std::int64_t Connect(int type, const auto& name, int domain = AF_INET) {
    return WithName(SYS_connect, Make(domain, type), name);
  }
  std::int64_t SendTo(std::int64_t fd, const auto& name, int flags = 0) {
    return Call(SYS_sendto, fd, thread_.PutString("x"), 1, flags, thread_.Put(name), sizeof(name));
  }
  msghdr Header(const auto& name) {
    const iovec buffer{reinterpret_cast<void*>(thread_.PutString("x")), 1};
    msghdr header{};
    header.msg_name = reinterpret_cast<void*>(thread_.Put(name));
    header.msg_namelen = sizeof(name);
    header.msg_iov = reinterpret_cast<iovec*>(thread_.Put(buffer));
    header.msg_iovlen = 1;
    return header;
  }
  std::int64_t SendMessage(std::int64_t fd, const msghdr& header) {
    return Call(SYS_sendmsg, fd, thread_.Put(header), 0);
  }

  HostSocket open_{SOCK_STREAM}, closed_{SOCK_STREAM};
  HostSocket open_udp_{SOCK_DGRAM}, closed_udp_{SOCK_DGRAM};
  Rules rules_;
  std::optional<policy::Guard> guard_;
  std::vector<int> sockets_;
};

TEST_F(SocketsTest, WithoutAPolicyEverythingIsTheKernels) {
  EXPECT_EQ(Connect(SOCK_STREAM, Address(closed_.port())), 0);
  EXPECT_EQ(SendTo(Make(AF_INET, SOCK_DGRAM), Address(closed_udp_.port())), 1);
  EXPECT_FALSE(closed_udp_.IsQuiet());
  EXPECT_EQ(Connect(SOCK_STREAM, Address(closed_.port(), AF_INET6)), -EAFNOSUPPORT);
  EXPECT_EQ(WithName(SYS_bind, Make(AF_INET, SOCK_STREAM), Address(0)), 0);
  EXPECT_EQ(Call(SYS_listen, Make(AF_INET, SOCK_STREAM), 1), 0);
  EXPECT_EQ(Call(SYS_connect, Make(AF_INET, SOCK_STREAM), kArenaEnd - 8, 16), -EFAULT);
  EXPECT_EQ(Call(SYS_connect, Make(AF_INET, SOCK_STREAM), kArena, 129), -EINVAL);
  EXPECT_EQ(Call(SYS_connect, Make(AF_INET, SOCK_STREAM), kArena, -1), -EINVAL);
}

TEST_F(SocketsTest, SocketsOutOfReachAreNotMade) {
  rules_.network.reach = Reach::kNone;
  Enforce();
  EXPECT_EQ(Make(AF_INET, SOCK_STREAM), -EACCES);
  EXPECT_EQ(Make(AF_INET6, SOCK_DGRAM), -EACCES);
  EXPECT_EQ(Make(AF_INET, SOCK_RAW, IPPROTO_ICMP), -EPERM);
  EXPECT_EQ(Make(AF_PACKET, SOCK_RAW), -EPERM);
  EXPECT_EQ(Make(AF_NETLINK, SOCK_RAW), -EACCES);
  EXPECT_EQ(Make(AF_ALG, SOCK_SEQPACKET), -EAFNOSUPPORT);
  EXPECT_GE(Make(AF_UNIX, SOCK_STREAM), 0);
  EXPECT_EQ(Call(SYS_socketpair, AF_INET, SOCK_STREAM, 0, thread_.Allocate(8)), -EOPNOTSUPP);
  const std::uint64_t pair = thread_.Allocate(8);
  EXPECT_EQ(Call(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, pair), 0);
  sockets_.insert(sockets_.end(), {TestThread::At<int>(pair), TestThread::At<int>(pair + 4)});
}

TEST_F(SocketsTest, NetlinkIsThereForThoseWhoCannotChangeTheNetwork) {
  rules_.network.reach = Reach::kHost;
  Enforce();
  // Root may: then there is none.
  EXPECT_EQ(Make(AF_NETLINK, SOCK_RAW) >= 0, getuid() != 0);
}

TEST_F(SocketsTest, ConnectGoesWhereTheListSays) {
  Enforce();
  EXPECT_EQ(Connect(SOCK_STREAM, Address(open_.port())), 0);
  EXPECT_EQ(Connect(SOCK_STREAM, Address(closed_.port())), -EACCES);
  EXPECT_EQ(Connect(SOCK_STREAM, Address6(open_.port(), "::ffff:127.0.0.1"), AF_INET6), 0);
  EXPECT_EQ(Connect(SOCK_STREAM, Address6(closed_.port(), "::ffff:127.0.0.1"), AF_INET6), -EACCES);
  EXPECT_EQ(Connect(SOCK_STREAM, Address(open_.port(), AF_INET, "0.0.0.0")), 0);
  EXPECT_EQ(Connect(SOCK_STREAM, Address(closed_.port(), AF_INET, "0.0.0.0")), -EACCES);
  EXPECT_EQ(Connect(SOCK_DGRAM, Address(open_udp_.port())), 0);
  EXPECT_EQ(Connect(SOCK_DGRAM, Address(closed_udp_.port())), -EACCES);
}

TEST_F(SocketsTest, APeerMayBeTakenAway) {
  Enforce();
  const std::int64_t fd = Make(AF_INET, SOCK_DGRAM);
  EXPECT_EQ(WithName(SYS_connect, fd, Address(open_udp_.port())), 0);
  EXPECT_EQ(WithName(SYS_connect, fd, Address(0, AF_UNSPEC)), 0);
  EXPECT_EQ(SendTo(fd, Address(closed_udp_.port(), AF_UNSPEC)), -EACCES);
}

TEST_F(SocketsTest, EveryWayToSendAsks) {
  Enforce();
  const std::int64_t fd = Make(AF_INET, SOCK_DGRAM);
  EXPECT_EQ(SendTo(fd, Address(open_udp_.port())), 1);
  EXPECT_FALSE(open_udp_.IsQuiet());
  EXPECT_EQ(SendTo(fd, Address(closed_udp_.port())), -EACCES);
  EXPECT_EQ(SendTo(fd, Address(closed_udp_.port(), AF_UNSPEC)), -EACCES);
  EXPECT_EQ(SendMessage(fd, Header(Address(open_udp_.port()))), 1);
  EXPECT_EQ(SendMessage(fd, Header(Address(closed_udp_.port()))), -EACCES);
  // With fast open, sending connects.
  const std::int64_t stream = Make(AF_INET, SOCK_STREAM);
  EXPECT_EQ(SendTo(stream, Address(closed_.port()), MSG_FASTOPEN), -EACCES);
  EXPECT_TRUE(closed_udp_.IsQuiet());
}

TEST_F(SocketsTest, OfSeveralMessagesThoseBeforeTheFirstDeniedOneGo) {
  Enforce();
  const std::int64_t fd = Make(AF_INET, SOCK_DGRAM);
  const mmsghdr good{.msg_hdr = Header(Address(open_udp_.port())), .msg_len = 0};
  const mmsghdr bad{.msg_hdr = Header(Address(closed_udp_.port())), .msg_len = 0};
  const std::array<mmsghdr, 3> mixed = {good, bad, good};
  EXPECT_EQ(Call(SYS_sendmmsg, fd, thread_.Put(mixed), 3, 0), 1);
  const std::array<mmsghdr, 2> refused = {bad, good};
  EXPECT_EQ(Call(SYS_sendmmsg, fd, thread_.Put(refused), 2, 0), -EACCES);
  EXPECT_FALSE(open_udp_.IsQuiet());
  EXPECT_TRUE(open_udp_.IsQuiet());
  EXPECT_TRUE(closed_udp_.IsQuiet());
}

TEST_F(SocketsTest, ListeningIsForListedAddresses) {
  const std::uint16_t port = [] { return HostSocket(SOCK_STREAM).port(); }();
  rules_.network.listen = {Loopback(port)};
  Enforce();
  const std::int64_t fd = Make(AF_INET, SOCK_STREAM);
  EXPECT_EQ(WithName(SYS_bind, fd, Address(port, AF_INET, "0.0.0.0")), -EACCES);
  EXPECT_EQ(WithName(SYS_bind, fd, Address(port, AF_UNSPEC, "0.0.0.0")), -EACCES);
  EXPECT_EQ(WithName(SYS_bind, fd, Address(0)), -EACCES);
  EXPECT_EQ(Call(SYS_listen, fd, 1), -EACCES);  // not bound: the kernel would choose a port
  EXPECT_EQ(WithName(SYS_bind, fd, Address(port)), 0);
  EXPECT_EQ(Call(SYS_listen, fd, 1), 0);
  EXPECT_EQ(Call(SYS_listen, fd, 2), 0);
  const std::int64_t connected = Make(AF_INET, SOCK_STREAM);
  EXPECT_EQ(WithName(SYS_connect, connected, Address(open_.port())), 0);
  EXPECT_EQ(Call(SYS_listen, connected, 1), -EINVAL);
  EXPECT_EQ(Call(SYS_listen, 999, 1), -EBADF);
  EXPECT_EQ(Call(SYS_listen, 0, 1), -ENOTSOCK);
}

TEST_F(SocketsTest, AServerForEverybodyServesLoopbackWhereThereIsNothingElse) {
  rules_.network = {.reach = Reach::kLoopback};
  Enforce();
  const std::int64_t fd = Make(AF_INET, SOCK_STREAM);
  EXPECT_EQ(WithName(SYS_bind, fd, Address(0, AF_INET, "0.0.0.0")), 0);
  EXPECT_EQ(Call(SYS_listen, fd, 1), 0);
  sockaddr_in name{};
  socklen_t size = sizeof(name);
  ASSERT_EQ(getsockname(static_cast<int>(fd), reinterpret_cast<sockaddr*>(&name), &size), 0);
  EXPECT_EQ(name.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
}

TEST_F(SocketsTest, AnAuditOnlyNotes) {
  rules_.audit = true;
  Enforce();
  EXPECT_EQ(Connect(SOCK_STREAM, Address(closed_.port())), 0);
  EXPECT_EQ(SendTo(Make(AF_INET, SOCK_DGRAM), Address(closed_udp_.port())), 1);
  EXPECT_FALSE(closed_udp_.IsQuiet());
}

TEST_F(SocketsTest, OptionsAreOfAList) {
  Enforce();
  const std::int64_t fd = Make(AF_INET, SOCK_STREAM);
  const std::uint64_t one = thread_.Put(1);
  EXPECT_EQ(Call(SYS_setsockopt, fd, SOL_SOCKET, SO_REUSEADDR, one, 4), 0);
  EXPECT_EQ(Call(SYS_setsockopt, fd, IPPROTO_TCP, TCP_NODELAY, one, 4), 0);
  EXPECT_EQ(Call(SYS_setsockopt, fd, SOL_SOCKET, SO_MARK, one, 4), -EPERM);
  EXPECT_EQ(Call(SYS_setsockopt, fd, SOL_SOCKET, SO_BINDTODEVICE, thread_.PutString("lo"), 3),
            -EPERM);
  EXPECT_EQ(Call(SYS_setsockopt, fd, IPPROTO_IP, IP_OPTIONS, one, 4), -EPERM);
  EXPECT_EQ(Call(SYS_setsockopt, fd, IPPROTO_TCP, TCP_REPAIR, one, 4), -EPERM);
  EXPECT_EQ(Call(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, thread_.Allocate(4), thread_.Put(4)), 0);
}

TEST_F(SocketsTest, ControlDataIsOfAList) {
  Enforce();
  struct {
    std::size_t length = CMSG_LEN(sizeof(int));
    int level = IPPROTO_IP;
    int type = IP_TTL;
    int value = 5;
    int padding = 0;
  } control;
  const std::int64_t fd = Make(AF_INET, SOCK_DGRAM);
  msghdr header = Header(Address(open_udp_.port()));
  header.msg_control = reinterpret_cast<void*>(thread_.Put(control));
  header.msg_controllen = sizeof(control);
  EXPECT_EQ(SendMessage(fd, header), 1);
  control.type = IP_RETOPTS;  // a source route would lead it elsewhere
  header.msg_control = reinterpret_cast<void*>(thread_.Put(control));
  EXPECT_EQ(SendMessage(fd, header), -EPERM);
}

// ---- Unix sockets -------------------------------------------------------------------------------

sockaddr_un UnixName(const std::string& path) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, path.data(), path.size());
  return name;
}

class UnixSocketsTest : public SocketsTest {
 protected:
  UnixSocketsTest() : listener_(socket(AF_UNIX, SOCK_STREAM, 0)) {
    rules_.network.unix_sockets = true;
    const sockaddr_un name = UnixName(directory_ + "/s");
    EXPECT_EQ(bind(listener_, reinterpret_cast<const sockaddr*>(&name), sizeof(name)), 0);
    EXPECT_EQ(listen(listener_, 100), 0);
  }
  ~UnixSocketsTest() override { close(listener_); }
  void Grant(const std::string& path, policy::FileRights rights) {
    rules_.paths.push_back({.path = path, .rights = rights, .origin = 0});
    Enforce();
  }

  int listener_;
};

TEST_F(UnixSocketsTest, ConnectNeedsTheRightToWriteToTheSocket) {
  Grant(directory_, policy::kReadFile);
  EXPECT_EQ(Connect(SOCK_STREAM, UnixName(directory_ + "/s"), AF_UNIX), -EACCES);
  Grant(directory_ + "/s", policy::kReadFile | policy::kWriteFile);
  EXPECT_EQ(Connect(SOCK_STREAM, UnixName(directory_ + "/s"), AF_UNIX), 0);
  EXPECT_EQ(Connect(SOCK_STREAM, UnixName("s"), AF_UNIX), 0);
  EXPECT_EQ(Connect(SOCK_STREAM, UnixName("missing"), AF_UNIX), -ENOENT);
}

TEST_F(UnixSocketsTest, ALinkIsJudgedByWhatItLeadsTo) {
  ASSERT_EQ(mkdir("open", 0700), 0);
  ASSERT_EQ(symlink("../s", "open/link"), 0);
  Grant(directory_ + "/open", policy::kAllRights);
  EXPECT_EQ(Connect(SOCK_STREAM, UnixName("open/link"), AF_UNIX), -EACCES);
}

TEST_F(UnixSocketsTest, WithoutTheWordOfThePolicyNobodyIsReached) {
  rules_.network.unix_sockets = false;
  Grant(directory_, policy::kAllRights);
  EXPECT_EQ(Connect(SOCK_STREAM, UnixName(directory_ + "/s"), AF_UNIX), -EACCES);
  // Where nobody is, nobody is kept from: as natively where the directory may be known, and no report.
  EXPECT_EQ(Connect(SOCK_STREAM, UnixName("missing"), AF_UNIX), -ENOENT);
  EXPECT_EQ(Connect(SOCK_STREAM, UnixName("/proc/nowhere/s"), AF_UNIX), -EACCES);
}

TEST_F(UnixSocketsTest, AbstractNamesBelongToTheNetwork) {
  Grant(directory_, policy::kAllRights);
  const sockaddr_un name = UnixName(std::string("\0dunebox-test", 13));
  EXPECT_EQ(Connect(SOCK_STREAM, name, AF_UNIX), -EACCES);
  EXPECT_EQ(WithName(SYS_bind, Make(AF_UNIX, SOCK_STREAM), name), -EACCES);
  EXPECT_EQ(Call(SYS_bind, Make(AF_UNIX, SOCK_STREAM), thread_.Put(name), 2), -EACCES);
}

TEST_F(UnixSocketsTest, ANameIsMadeWhereFilesMayBe) {
  ASSERT_EQ(mkdir("open", 0700), 0);
  Grant(directory_ + "/open", policy::kAllRights);
  EXPECT_EQ(WithName(SYS_bind, Make(AF_UNIX, SOCK_STREAM), UnixName("other")), -EACCES);
  const std::int64_t fd = Make(AF_UNIX, SOCK_STREAM);
  EXPECT_EQ(WithName(SYS_bind, fd, UnixName("open/other")), 0);
  // The name is the one that the program gave.
  const std::uint64_t name = thread_.Allocate(128), size = thread_.Put(128);
  EXPECT_EQ(Call(SYS_getsockname, fd, name, size), 0);
  EXPECT_STREQ(TestThread::At<sockaddr_un>(name).sun_path, "open/other");
  EXPECT_EQ(TestThread::At<int>(size), static_cast<int>(2 + sizeof("open/other")));
  struct stat status {};
  ASSERT_EQ(stat("open/other", &status), 0);
  EXPECT_TRUE(S_ISSOCK(status.st_mode));
  EXPECT_NE(stat("other", &status), 0);
}

// ---- Races --------------------------------------------------------------------------------------

class PortFlipper {
 public:
  PortFlipper(std::uint64_t address, std::uint16_t one, std::uint16_t other)
      : thread_([=, this] {
          auto& port = TestThread::At<sockaddr_in>(address).sin_port;
          while (!stop_) {
            __atomic_store_n(&port, htons(one), __ATOMIC_RELAXED);
            __atomic_store_n(&port, htons(other), __ATOMIC_RELAXED);
          }
        }) {}
  ~PortFlipper() {
    stop_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

TEST_F(SocketsTest, APortThatChangesNeverLeadsToTheDeniedOne) {
  Enforce();
  const std::uint64_t name = thread_.Put(Address(open_udp_.port()));
  const std::int64_t fd = Make(AF_INET, SOCK_DGRAM);
  const std::uint64_t byte = thread_.PutString("x");
  const std::uint64_t header = thread_.Put([&] {
    msghdr with_name = Header(Address(0));
    with_name.msg_name = reinterpret_cast<void*>(name);
    return with_name;
  }());
  const PortFlipper flipper(name, open_udp_.port(), closed_udp_.port());
  int went = 0, refused = 0;
  for (int i = 0; i < 20'000 && (went == 0 || refused == 0 || i < 3'000); ++i) {
    const std::int64_t results[] = {
        Call(SYS_sendto, fd, byte, 1, MSG_DONTWAIT, name, sizeof(sockaddr_in)),
        Call(SYS_sendmsg, fd, header, MSG_DONTWAIT)};
    for (const std::int64_t result : results) {
      if (result == -EACCES) ++refused;
      if (result == 1) ++went;
    }
    const std::int64_t connecting = Make(AF_INET, SOCK_DGRAM);
    if (Call(SYS_connect, connecting, name, sizeof(sockaddr_in)) == 0) {
      sockaddr_in peer{};
      socklen_t size = sizeof(peer);
      ASSERT_EQ(getpeername(static_cast<int>(connecting), reinterpret_cast<sockaddr*>(&peer),
                            &size),
                0);
      ASSERT_EQ(ntohs(peer.sin_port), open_udp_.port());
    }
    close(sockets_.back());
    sockets_.pop_back();
  }
  EXPECT_GT(went, 0);
  EXPECT_GT(refused, 0);
  EXPECT_TRUE(closed_udp_.IsQuiet());
}

}  // namespace
}  // namespace dunebox::hostcalls

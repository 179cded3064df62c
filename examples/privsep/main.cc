// A server that ends TLS, and whose private key its request handler cannot read: handler and key
// are in compartments of one process. On the loopback interface only, one client after the other.
//
//   privsep [--without-compartments | --learn] [--ring=0] [--requests=N] CERTIFICATE.pem KEY.pem
//
// With --ring=0 the server enters ring 0 (libdune), and its compartments are page tables in ring 3; else their code is
// translated.
// Says on stdout where it listens, and, for attackers, where the key is. The key is one for ECDSA.
// After N clients it says what each has cost, and what the handler has learnt to need (--learn).
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>

#include <charconv>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "dune/dune.h"
#include "runtime/file_descriptor.h"
#include "server.h"

using dunebox::runtime::FileDescriptor;

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream input(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(input), {}};
  if (!input || text.empty()) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  return text;
}

namespace {

struct Options {
  bool is_separated = true;
  bool is_in_ring0 = false;
  Mode mode = Mode::kEnforce;
  long requests = std::numeric_limits<long>::max();
  Files files;
};

std::optional<Options> Parse(int count, char** arguments) {
  Options options;
  constexpr std::string_view kRequests = "--requests=";
  int i = 1;
  for (; i < count && arguments[i][0] == '-'; ++i) {
    const std::string_view option = arguments[i];
    if (option == "--without-compartments") {
      options.is_separated = false;
    } else if (option == "--learn") {
      options.mode = Mode::kLearn;
    } else if (option == "--ring=0") {
      options.is_in_ring0 = true;
    } else if (option.starts_with(kRequests)) {
      const std::string_view number = option.substr(kRequests.size());
      const auto [end, error] =
          std::from_chars(number.data(), number.data() + number.size(), options.requests);
      if (error != std::errc() || end != number.data() + number.size()) return std::nullopt;
    } else {
      return std::nullopt;
    }
  }
  if (count - i != 2) return std::nullopt;
  options.files = {.certificate = arguments[i], .key = arguments[i + 1]};
  return options;
}

// At a free port; 0: there is none.
int Listen(const FileDescriptor& listener) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  socklen_t size = sizeof(address);
  if (bind(listener.get(), any, size) != 0 || listen(listener.get(), 64) != 0 ||
      getsockname(listener.get(), any, &size) != 0) {
    return 0;
  }
  return ntohs(address.sin_port);
}

double Microseconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return 1e6 * static_cast<double>(now.tv_sec) + 1e-3 * static_cast<double>(now.tv_nsec);
}

// Compartments are made by ring 0 if the thread that makes them is there.
absl::StatusOr<std::unique_ptr<Server>> Make(const Options& options) {
  if (options.is_in_ring0) {
    if (absl::Status entered = dune::Enter({.backend = dune::Wanted::kRing0}); !entered.ok()) return entered;
  }
  return options.is_separated ? MakeSeparated(options.files, options.mode) : MakeTogether(options.files);
}

int Run(const Options& options) {
  const absl::StatusOr<std::unique_ptr<Server>> server = Make(options);
  if (!server.ok()) {
    std::fprintf(stderr, "privsep: %s\n", std::string(server.status().message()).c_str());
    return 1;
  }
  const FileDescriptor listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int port = Listen(listener);
  if (port == 0) {
    std::fprintf(stderr, "privsep: cannot listen\n");
    return 1;
  }
  std::printf("port %d\nkey 0x%llx\n", port,
              static_cast<unsigned long long>((*server)->key_address()));
  std::fflush(stdout);
  const double before = Microseconds(CLOCK_PROCESS_CPUTIME_ID);
  for (long served = 0; served < options.requests; ++served) {
    const FileDescriptor client(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!client.valid()) continue;
    if (const absl::Status status = (*server)->Serve(client.get()); !status.ok()) {
      std::fprintf(stderr, "privsep: a client has broken its handler: %s\n",
                   std::string(status.message()).c_str());
    }
    // Whatever the handler still has of it.
    shutdown(client.get(), SHUT_RDWR);
  }
  const double used = Microseconds(CLOCK_PROCESS_CPUTIME_ID) - before;
  std::printf("%ld clients, %.0f us of processor time each\n", options.requests,
              used / static_cast<double>(options.requests));
  for (const std::string& line : (*server)->Learned()) std::printf("%s\n", line.c_str());
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  const std::optional<Options> options = Parse(count, arguments);
  if (!options) {
    std::fprintf(
        stderr,
        "usage: privsep [--without-compartments | --learn] [--ring=0] [--requests=N] CERTIFICATE KEY\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  return Run(*options);
}

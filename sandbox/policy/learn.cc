#include "sandbox/policy/learn.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "hostcalls/policy/object_name.h"
#include "sandbox/policy/quoted.h"

namespace dunebox::policy {
namespace {

// ---- What a denial was about --------------------------------------------------------------------

constexpr std::pair<std::string_view, UseKind> kFileActions[] = {
    {"look up", UseKind::kLookUp},
    {"read", UseKind::kRead},
    {"execute", UseKind::kExecute},
    {"write", UseKind::kWrite},
    {"create", UseKind::kCreate},
    // Of a socket by its path: written to, or made.
    {"connect", UseKind::kWrite},
    {"send", UseKind::kWrite},
    {"bind", UseKind::kCreate},
};

constexpr std::string_view kCapability = "CAP_";
constexpr std::string_view kUnixPrefix = "unix:";
constexpr std::string_view kUnixAbstractPrefix = "unix:@";
constexpr std::string_view kMachine = "/proc/";

std::optional<UseKind> FileUse(const LoggedDenial& denial) {
  if (!denial.object.starts_with('/')) return std::nullopt;
  for (const auto& [action, kind] : kFileActions) {
    if (denial.action == action) return kind;
  }
  return std::nullopt;
}

// Why no rule is proposed for a file, whatever its place.
std::optional<std::string_view> WhyNoFile(std::string_view name, UseKind kind) {
  using hostcalls::policy::NameKind;
  switch (hostcalls::policy::KindOf(name)) {
    case NameKind::kNoPath:
    case NameKind::kOfProcess:
      return "no file that a rule could name";
    case NameKind::kTerminal:
      return "a terminal, of which a session has its own";
    case NameKind::kFile:
      break;
  }
  const bool changes = kind == UseKind::kWrite || kind == UseKind::kCreate;
  if (changes && name.starts_with(kMachine)) return "a setting of the whole machine";
  return std::nullopt;
}

// "192.0.2.1:443", "[::1]:53": the port's text, where there is one.
std::optional<std::string_view> PortOf(std::string_view address) {
  const std::size_t colon = address.rfind(':');
  if (colon == address.npos || colon == 0) return std::nullopt;
  const std::string_view port = address.substr(colon + 1);
  const bool is_number =
      !port.empty() && std::ranges::all_of(port, [](char c) { return c >= '0' && c <= '9'; });
  return is_number ? std::optional(port) : std::nullopt;
}

// Of the address and the port that PortOf found.
std::string_view HostOf(std::string_view address) { return address.substr(0, address.rfind(':')); }

bool IsLoopback(std::string_view host) { return host.starts_with("127.") || host == "[::1]"; }

// From where on kernels choose ports for clients, by default: what a server sends there answers.
constexpr int kFirstClientPort = 32768;

bool IsClientPort(std::string_view port) {
  int number = 0;
  std::from_chars(port.data(), port.data() + port.size(), number);
  return number >= kFirstClientPort;
}

std::string_view BaseName(std::string_view path) { return path.substr(path.rfind('/') + 1); }

// ---- Why a rule is there ------------------------------------------------------------------------

// "read by python3 (openat, newfstatat), 12 times: /srv/a, /srv/b, ..."
class Reason {
 public:
  void Add(const LoggedDenial& denial) {
    AddOnce(actions_, denial.action);
    if (!denial.program.empty()) AddOnce(programs_, BaseName(denial.program));
    if (!denial.call.empty()) AddOnce(calls_, denial.call);
    AddOnce(objects_, denial.object);
    count_ += denial.count;
  }

  std::string Text() const {
    constexpr std::size_t kMostNames = 3;
    std::string text = List(actions_, kMostNames);
    if (!programs_.empty()) text += fmt::format(" by {}", List(programs_, kMostNames));
    if (!calls_.empty()) text += fmt::format(" ({})", List(calls_, kMostNames));
    text += count_ == 1 ? ", once: " : fmt::format(", {} times: ", count_);
    return text + List(objects_, kMostNames);
  }

 private:
  static void AddOnce(std::vector<std::string>& list, std::string_view word) {
    if (std::ranges::find(list, word) == list.end()) list.emplace_back(word);
  }

  static std::string List(const std::vector<std::string>& list, std::size_t most) {
    std::string text;
    for (std::size_t i = 0; i < std::min(list.size(), most); ++i) {
      text += fmt::format("{}{}", i == 0 ? "" : ", ", Escaped(list[i]));
    }
    if (list.size() > most) text += fmt::format(" and {} more", list.size() - most);
    return text;
  }

  std::vector<std::string> actions_, programs_, calls_, objects_;
  std::uint64_t count_ = 0;
};

// ---- Proposing ----------------------------------------------------------------------------------

class Proposer {
 public:
  Proposer(const std::vector<LoggedDenial>& denials, const LearnSurroundings& surroundings)
      : denials_(denials), surroundings_(surroundings) {}

  Proposal Propose() {
    std::vector<PathUse> uses;
    std::vector<const LoggedDenial*> of_use;
    for (const LoggedDenial& denial : denials_) {
      const std::optional<UseKind> kind = FileUse(denial);
      if (!kind) {
        ProposeOther(denial);
      } else if (const auto reason = WhyNoFile(denial.object, *kind)) {
        LeaveOut(denial, *reason);
      } else {
        uses.push_back({denial.object, *kind});
        of_use.push_back(&denial);
      }
    }
    ProposeTrees(LearnPaths(uses, surroundings_), of_use);
    TakeNetwork();
    std::ranges::stable_sort(proposal_.rules, {}, &ProposedRule::setting);
    return std::move(proposal_);
  }

 private:
  void LeaveOut(const LoggedDenial& denial, std::string_view reason) {
    Reason what;
    what.Add(denial);
    // Reasons name paths, too.
    std::string note = fmt::format("{}: {}", what.Text(), Escaped(reason));
    if (!denial.cure.empty()) note += fmt::format(" (allowed by {})", Escaped(denial.cure));
    proposal_.notes.push_back(std::move(note));
  }

  // A program chooses names, and a recorder may know forms of addresses that settings do not: what
  // a setting would not take back is not proposed.
  static bool IsTaken(Setting setting, const std::string& word) {
    if (!std::ranges::all_of(word, [](char c) { return c >= ' ' && c <= '~'; })) return false;
    Policy scratch;
    return Set(scratch, setting, {{word}}, "").ok();
  }

  // ---- Files

  // What a setting takes for a path; nothing where it has no words for it.
  std::optional<std::string> Word(const std::string& path) const {
    // Two paths to the setting; a byte that the recorder has escaped.
    if (path.find(":/") != path.npos || path.find('\\') != path.npos) return std::nullopt;
    const std::string& home = surroundings_.home;
    if (home.size() > 1 && path.starts_with(home + "/"))
      return fmt::format("~{}", path.substr(home.size()));
    return path;
  }

  void ProposeTrees(const LearnedPaths& learned, const std::vector<const LoggedDenial*>& of_use) {
    for (const LearnedTree& tree : learned.trees) {
      const bool is_read = tree.rights == hostcalls::policy::kReadOnly;
      const Setting setting = tree.is_tmpfs ? Setting::kTmpfs
                              : is_read     ? Setting::kRead
                                            : Setting::kWrite;
      // A tmpfs is made at a place of the program's, which "~" is not.
      const std::optional<std::string> word = tree.is_tmpfs ? tree.path : Word(tree.path);
      const bool is_taken = word && IsTaken(setting, *word);
      Reason why;
      for (const std::size_t use : tree.uses) {
        why.Add(*of_use[use]);
        if (!is_taken) LeaveOut(*of_use[use], "a name that a policy file cannot write");
      }
      if (is_taken) proposal_.rules.push_back({setting, *word, why.Text()});
    }
    for (const UnmetUse& unmet : learned.unmet) LeaveOut(*of_use[unmet.use], unmet.reason);
    ProposeDirectory(learned);
  }

  // A program starts at the root when it may not see the directory that dunebox is started in, and
  // relative names would then mean other files.
  void ProposeDirectory(const LearnedPaths& learned) {
    const std::string& directory = surroundings_.directory;
    const auto is_in_it = [&](const LearnedTree& tree) {
      return !tree.is_tmpfs && IsBelow(tree.path, directory);
    };
    const auto shows_it = [&](const LearnedTree& tree) {
      return tree.path == directory || IsBelow(directory, tree.path);
    };
    if (directory.empty() || !std::ranges::any_of(learned.trees, is_in_it) ||
        std::ranges::any_of(learned.trees, shows_it) || !IsTaken(Setting::kChdir, directory)) {
      return;
    }
    proposal_.rules.push_back({Setting::kChdir, directory, "where it was started"});
  }

  static bool IsBelow(std::string_view path, std::string_view tree) {
    return path.size() > tree.size() && path.starts_with(tree) && path[tree.size()] == '/';
  }

  // ---- Network and what no rule is proposed for

  void AddNetwork(const std::string& word, const LoggedDenial& denial) {
    if (!IsTaken(Setting::kNetwork, word)) return LeaveOut(denial, "no address that a rule names");
    const auto [place, is_new] = network_.try_emplace(word);
    if (is_new) network_order_.push_back(word);
    place->second.Add(denial);
  }

  void ProposeOther(const LoggedDenial& denial) {
    const bool connects = denial.action == "connect" || denial.action == "send";
    const bool listens = denial.action == "bind" || denial.action == "listen";
    if (denial.object.starts_with(kUnixAbstractPrefix)) {
      return LeaveOut(denial, "a name that only the host's network has");
    }
    if ((connects || listens) && denial.object.starts_with(kUnixPrefix)) {
      return AddNetwork("unix", denial);
    }
    const std::optional<std::string_view> port = PortOf(denial.object);
    if (port && (connects || listens)) return ProposePort(denial, *port);
    if (denial.action == "make socket" && denial.object.starts_with("inet")) {
      unused_sockets_.push_back(&denial);
      return;
    }
    if (denial.action == kWatchedWith) {
      proposal_.notes.push_back(
          fmt::format("it was watched with {}, which a program under a policy has not: what it did to files of other users by "
                      "these alone is not seen",
                      Escaped(denial.object)));
      return;
    }
    if (denial.action == "use" && denial.object.starts_with(kCapability)) {
      return LeaveOut(denial, "a program under a policy has no capabilities; start it as the user it is for");
    }
    LeaveOut(denial, "no rule is proposed for this");
  }

  void ProposePort(const LoggedDenial& denial, std::string_view port) {
    const std::string_view host = HostOf(denial.object);
    const std::string any_port = fmt::format("listen:{}:*", host);
    if (denial.action == "connect" || denial.action == "send") {
      if (port == "0") return LeaveOut(denial, "a port that nobody can have");
      if (denial.action == "send" && IsClientPort(port) && HasPort(denial.program)) {
        return AddNetwork(fmt::format("tcp:{}:{}-65535", host, kFirstClientPort), denial);
      }
      return AddNetwork("tcp:" + denial.object, denial);
    }
    if (port == "0" && IsLoopback(host)) return AddNetwork(any_port, denial);
    if (port == "0") return LeaveOut(denial, "a port that the kernel chooses");
    if (denial.action == "listen" && !IsBound(denial)) {
      if (network_.contains(any_port)) return AddNetwork(any_port, denial);
      return LeaveOut(denial, "a port that the kernel has chosen");
    }
    AddNetwork(fmt::format("listen:{}", port), denial);
  }

  // Did the program ask for the port that it listens on?
  bool IsBound(const LoggedDenial& listening) const {
    return std::ranges::any_of(denials_, [&](const LoggedDenial& other) {
      return other.action == "bind" && other.object == listening.object;
    });
  }

  bool HasPort(std::string_view program) const {
    return std::ranges::any_of(denials_, [&](const LoggedDenial& other) {
      const std::optional<std::string_view> port = PortOf(other.object);
      return other.action == "bind" && other.program == program && port && *port != "0";
    });
  }

  void TakeNetwork() {
    for (const std::string& word : network_order_) {
      proposal_.rules.push_back({Setting::kNetwork, word, network_.at(word).Text()});
    }
    const bool has_internet =
        std::ranges::any_of(network_order_, [](const std::string& word) { return word != "unix"; });
    if (has_internet) return;  // which lets it make the socket, too
    for (const LoggedDenial* denial : unused_sockets_) {
      LeaveOut(*denial, "a socket that was not used for anything");
    }
  }

  const std::vector<LoggedDenial>& denials_;
  const LearnSurroundings& surroundings_;
  std::map<std::string, Reason> network_;
  std::vector<std::string> network_order_;
  std::vector<const LoggedDenial*> unused_sockets_;
  Proposal proposal_;
};

// ---- The file -----------------------------------------------------------------------------------

const SettingRow& RowOf(Setting setting) {
  return *std::ranges::find(Settings(), setting, &SettingRow::id);
}

// "files.read" is `read` in [files]; `network` is in no table.
std::pair<std::string_view, std::string_view> TableAndName(std::string_view key) {
  const std::size_t dot = key.find('.');
  if (dot == key.npos) return {"", key};
  return {key.substr(0, dot), key.substr(dot + 1)};
}

}  // namespace

Proposal Propose(const std::vector<LoggedDenial>& denials, const LearnSurroundings& surroundings) {
  return Proposer(denials, surroundings).Propose();
}

std::string FormatToml(const Proposal& proposal) {
  std::string text = "# Proposed by `dunebox policy learn` on top of the default policy.\n";
  for (const std::string& note : proposal.notes) text += fmt::format("# Not allowed: {}\n", note);
  // Settings outside of every table have to come first.
  for (const bool in_table : {false, true}) {
    std::string_view open_table, open_list;
    for (const ProposedRule& rule : proposal.rules) {
      const SettingRow& row = RowOf(rule.setting);
      const auto [table, name] = TableAndName(row.key);
      if (table.empty() == in_table) continue;
      if (row.key != open_list) {
        if (!open_list.empty()) text += "]\n";
        open_list = "";
        if (table != open_table) text += fmt::format("\n[{}]\n", table);
        if (table.empty()) text += "\n";
        open_table = table;
      }
      if (row.shape != Shape::kList) {
        text += fmt::format("# {}\n{} = {}\n", rule.why, name, Quoted(rule.word));
        continue;
      }
      if (open_list.empty()) text += fmt::format("{} = [\n", name);
      open_list = row.key;
      text += fmt::format("  # {}\n  {},\n", rule.why, Quoted(rule.word));
    }
    if (!open_list.empty()) text += "]\n";
  }
  return text;
}

}  // namespace dunebox::policy

#include "sandbox/cli/completion.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <utility>
#include <vector>

#include "absl/strings/str_replace.h"
#include "hostcalls/errors/catalogue.h"
#include "sandbox/cli/option_table.h"

namespace dunebox::cli {
namespace {

using Replacements = std::initializer_list<std::pair<const absl::string_view, absl::string_view>>;

std::string Replaced(std::string_view text, Replacements replacements) {
  return absl::StrReplaceAll(std::string(text), replacements);
}

// In front of the first blank, and behind it.
std::pair<std::string_view, std::string_view> SplitName(std::string_view name) {
  const std::size_t blank = name.find(' ');
  if (blank == name.npos) return {name, {}};
  return {name.substr(0, blank), name.substr(blank + 1)};
}

// What a word may be, as far as a shell can help with it.
enum class WordKind : unsigned char { kFree, kFile, kDirectory };

WordKind KindOf(std::string_view value_name) {
  for (const std::string_view file : {"FILE", "LOG", "PATH", "SRC", "DEST"}) {
    if (value_name.starts_with(file)) return WordKind::kFile;
  }
  return value_name.starts_with("DIR") ? WordKind::kDirectory : WordKind::kFree;
}

// The names of an option's words, one for each: "SRC DEST" are two.
std::vector<std::string_view> ValueNames(const OptionRow& option) {
  if (option.value_name.empty()) return {};
  if (option.word_count == 1) return {option.value_name};
  const auto [first, second] = SplitName(option.value_name);
  return {first, second};
}

// How many of the words behind it belong to an option that has no "=" in it.
int WordsBehind(const OptionRow& option) {
  return option.is_flag() || !option.bare_value.empty() ? 0 : option.word_count;
}

std::vector<std::string_view> FirstWords() {
  std::vector<std::string_view> words;
  for (const CommandRow& command : Commands()) {
    const std::string_view word = SplitName(command.name).first;
    if (std::ranges::find(words, word) == words.end()) words.push_back(word);
  }
  return words;
}

std::vector<std::string_view> SecondWords(std::string_view first) {
  std::vector<std::string_view> words;
  for (const CommandRow& command : Commands()) {
    const auto [group, word] = SplitName(command.name);
    if (group == first && !word.empty()) words.push_back(word);
  }
  return words;
}

// As shells read it: 'text'.
std::string Quoted(std::string_view text) {
  return fmt::format("'{}'", Replaced(text, {{"'", R"('\'')"}}));
}

// The first word of a group of commands, and what it is good for.
std::string SummaryOf(std::string_view first) {
  const CommandRow* const command = FindCommand(first);
  if (command != nullptr) return std::string(command->summary);
  return fmt::format("{}", fmt::join(SecondWords(first), ", "));
}

// The few words that can stand there.
std::string WordsOf(Operands operands) {
  if (operands == Operands::kShell) return fmt::format("{}", fmt::join(Shells(), " "));
  std::string ids;
  for (const errors::Row& row : errors::AllRows()) {
    ids += fmt::format("{}{}", ids.empty() ? "" : " ", errors::CodeOf(row.id).data());
  }
  return ids;
}

// ---- bash ---------------------------------------------------------------------------------------

constexpr std::string_view kBashBegin = R"sh(# bash completion for dunebox(1), made by `dunebox completion bash`.

# What the option $2 of the command $1 takes: the number of words behind it, what they are, and the words they can be.
_dunebox_option() {
  case "$1 $2" in
)sh";

constexpr std::string_view kBashMiddle = R"sh(    *) echo "0 free" ;;
  esac
}

_dunebox_options() {
  case "$1" in
)sh";

constexpr std::string_view kBashEnd = R"sh(  esac
}

# The word $1, an option's value, is to be completed: it is $2, one of the words $3.
_dunebox_value() {
  case "$2" in
    file) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$1") ;;
    directory) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$1") ;;
    *) mapfile -t COMPREPLY < <(compgen -W "$3" -- "$1") ;;
  esac
}

# The program, and its own words, begin at the word $1.
_dunebox_program() {
  local -i begin=$1 offset
  if ((begin == ${#words[@]} - 1)); then
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -c -- "$current"; [[ $current == */* ]] && compgen -f -- "$current")
    return
  fi
  # bash breaks words at "=" and ":", too: the same place in its list.
  local ours= theirs=
  ours=$(printf '%s' "${words[@]:0:begin}")
  for ((offset = 0; offset < COMP_CWORD; ++offset)); do
    [[ $theirs == "$ours" ]] && break
    theirs+=${COMP_WORDS[offset]}
  done
  if [[ $theirs == "$ours" ]] && declare -F _command_offset >/dev/null; then
    _command_offset "$offset"
  else
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  fi
}

_dunebox() {
  local line=${COMP_LINE:0:COMP_POINT} command current name count kind values operands
  local -a words
  local -i index=2 last
  read -a words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  last=$((${#words[@]} - 1))
  current=${words[last]}
  COMPREPLY=()

  if ((last == 1)); then
    mapfile -t COMPREPLY < <(compgen -W "$(_dunebox_options "") --help --version" -- "$current")
    return
  fi
  command=${words[1]}
  if [[ -n "$(_dunebox_options "$command ")" ]]; then
    if ((last == 2)); then
      mapfile -t COMPREPLY < <(compgen -W "$(_dunebox_options "$command ")" -- "$current")
      return
    fi
    command+=" ${words[2]}"
    index=3
  fi
  read -r operands <<<"$(_dunebox_options "$command operands")"

  while ((index < last)); do
    case "${words[index]}" in
      --) break ;;
      -*=*) index+=1 ;;
      -*)
        read -r count kind values <<<"$(_dunebox_option "$command" "${words[index]}")"
        if ((index + count >= last)); then
          _dunebox_value "$current" "$kind" "$values"
          return
        fi
        index+=count+1 ;;
      *) break ;;
    esac
  done
  [[ ${words[index]} == -- ]] && ((index < last)) && index+=1

  if ((index == last)) && [[ $current == -* && ${words[index - 1]} != -- ]]; then
    if [[ $current == *=* ]]; then
      name=${current%%=*}
      read -r count kind values <<<"$(_dunebox_option "$command" "$name")"
      _dunebox_value "${current#*=}" "$kind" "$values"
      # Where "=" ends a word for bash, it replaces only what is behind it.
      [[ $COMP_WORDBREAKS == *=* ]] || COMPREPLY=("${COMPREPLY[@]/#/$name=}")
      return
    fi
    mapfile -t COMPREPLY < <(compgen -W "$(_dunebox_options "$command")" -- "$current")
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
    return
  fi
  case "$operands" in
    program) _dunebox_program "$index" ;;
    files) _dunebox_value "$current" file ;;
    *) _dunebox_value "$current" free "$operands" ;;
  esac
}
complete -F _dunebox dunebox
)sh";

std::string_view BashKind(const OptionRow& option) {
  switch (KindOf(option.value_name)) {
    case WordKind::kFile: return "file";
    case WordKind::kDirectory: return "directory";
    case WordKind::kFree: return "free";
  }
  return {};
}

std::string BashOperands(const CommandRow& command) {
  switch (command.operands) {
    case Operands::kNone:
    case Operands::kContainer: return "";
    case Operands::kProgram: return "program";
    case Operands::kFiles: return "files";
    case Operands::kShell:
    case Operands::kMessage: return WordsOf(command.operands);
  }
  return {};
}

std::string BashScript() {
  std::string text(kBashBegin);
  for (const CommandRow& command : Commands()) {
    for (const OptionRow& option : command.options) {
      text += fmt::format("    {}) echo {} ;;\n", Quoted(fmt::format("{} {}", command.name, option.name)),
                          Quoted(fmt::format("{} {} {}", WordsBehind(option), BashKind(option),
                                             fmt::join(option.values, " "))));
    }
  }
  text += kBashMiddle;
  text += fmt::format("    '') echo {} ;;\n", Quoted(fmt::format("{}", fmt::join(FirstWords(), " "))));
  for (const std::string_view first : FirstWords()) {
    const std::vector<std::string_view> second = SecondWords(first);
    if (second.empty()) continue;
    text += fmt::format("    '{} ') echo {} ;;\n", first, Quoted(fmt::format("{}", fmt::join(second, " "))));
  }
  for (const CommandRow& command : Commands()) {
    std::vector<std::string> options;
    for (const OptionRow& option : command.options) {
      const bool has_equals = WordsBehind(option) == 1 && option.name.starts_with("--");
      options.push_back(fmt::format("{}{}", option.name, has_equals ? "=" : ""));
      if (!option.bare_value.empty()) options.push_back(fmt::format("{}=", option.name));
    }
    text += fmt::format("    '{}') echo {} ;;\n", command.name,
                        Quoted(fmt::format("{}", fmt::join(options, " "))));
    text += fmt::format("    '{} operands') echo {} ;;\n", command.name, Quoted(BashOperands(command)));
  }
  text += kBashEnd;
  return text;
}

// ---- zsh ----------------------------------------------------------------------------------------

// Inside [...] of a specification for _arguments.
std::string ZshText(std::string_view text) {
  return Replaced(text, {{"[", "\\["}, {"]", "\\]"}, {":", "\\:"}});
}

std::string ZshValue(std::string_view name, std::span<const std::string_view> values) {
  if (!values.empty()) return fmt::format(":value:({})", fmt::join(values, " "));
  const std::string label = ZshText(name);
  switch (KindOf(name)) {
    case WordKind::kFile: return fmt::format(":{}:_files", label);
    case WordKind::kDirectory: return fmt::format(":{}:_files -/", label);
    case WordKind::kFree: return fmt::format(":{}: ", label);
  }
  return {};
}

std::string ZshOption(const OptionRow& option) {
  std::string text = option.is_repeatable ? "*" : "";
  text += option.name;
  const bool is_long = option.name.starts_with("--");
  if (!option.bare_value.empty()) {
    text += "=-";
  } else if (WordsBehind(option) == 1 && is_long) {
    text += "=";
  }
  text += fmt::format("[{}]", ZshText(option.help));
  if (option.is_flag()) return text;
  if (!option.bare_value.empty()) text += ":";  // its value is optional
  if (!option.values.empty()) return text + ZshValue("", option.values);
  for (const std::string_view name : ValueNames(option)) text += ZshValue(name, {});
  return text;
}

std::vector<std::string> ZshOperands(const CommandRow& command) {
  switch (command.operands) {
    case Operands::kNone:
    case Operands::kContainer: return {};
    case Operands::kProgram: return {"(-):program:_command_names -e", "*::arguments:_normal"};
    case Operands::kFiles: return {"*:file:_files"};
    case Operands::kShell: return {fmt::format(":shell:({})", WordsOf(command.operands))};
    case Operands::kMessage: return {fmt::format(":id:({})", WordsOf(command.operands))};
  }
  return {};
}

std::string ZshDescriptions(std::span<const std::string_view> words, std::string_view prefix) {
  std::string text;
  for (const std::string_view word : words) {
    const std::string name = prefix.empty() ? std::string(word) : fmt::format("{} {}", prefix, word);
    text += fmt::format(" {}", Quoted(fmt::format("{}:{}", word, ZshText(SummaryOf(name)))));
  }
  return text;
}

std::string ZshScript() {
  std::string text =
      "#compdef dunebox\n"
      "# zsh completion for dunebox(1), made by `dunebox completion zsh`.\n\n";
  for (const CommandRow& command : Commands()) {
    text += fmt::format("_dunebox_{}() {{\n  _arguments -S", Replaced(command.name, {{" ", "_"}}));
    for (const OptionRow& option : command.options) text += fmt::format(" \\\n    {}", Quoted(ZshOption(option)));
    for (const std::string& operand : ZshOperands(command)) text += fmt::format(" \\\n    {}", Quoted(operand));
    text += "\n}\n\n";
  }
  for (const std::string_view first : FirstWords()) {
    const std::vector<std::string_view> second = SecondWords(first);
    if (second.empty()) continue;
    text += fmt::format(
        "_dunebox_{0}() {{\n  if ((CURRENT == 2)); then\n    local -a commands=({1})\n"
        "    _describe command commands\n    return\n  fi\n  local name=$words[2]\n  shift words\n"
        "  ((--CURRENT))\n  (($+functions[_dunebox_{0}_$name])) && _dunebox_{0}_$name\n}}\n\n",
        first, ZshDescriptions(second, first));
  }
  text += fmt::format(
      "_dunebox() {{\n  if ((CURRENT == 2)); then\n    local -a commands=({})\n"
      "    _describe command commands\n    [[ $PREFIX == -* ]] && compadd -- --help --version\n"
      "    return\n  fi\n  local name=$words[2]\n  shift words\n  ((--CURRENT))\n"
      "  (($+functions[_dunebox_$name])) && _dunebox_$name\n}}\n\n"
      "if [[ $funcstack[1] == _dunebox ]]; then\n  _dunebox \"$@\"\nelse\n  compdef _dunebox dunebox\nfi\n",
      ZshDescriptions(FirstWords(), ""));
  return text;
}

// ---- fish ---------------------------------------------------------------------------------------

constexpr std::string_view kFishEnd = R"sh(
# Prints the command, and behind it where the program's words begin once they have; 0: not yet.
function __dunebox_state
    set -l words (commandline -opc)
    test (count $words) -ge 2; or return
    set -l command $words[2]
    set -l index 3
    if contains -- $command $__dunebox_groups
        test (count $words) -ge 3; or return
        set command "$command $words[3]"
        set index 4
    end
    echo $command
    while test $index -le (count $words)
        switch $words[$index]
            case --
                echo (math $index + 1)
                return
            case '-*=*'
                set index (math $index + 1)
            case '-*'
                set -l takes 0
                for row in $__dunebox_takes
                    set -l parts (string split '|' -- $row)
                    if test "$parts[1]" = "$command" -a "$parts[2]" = "$words[$index]"
                        set takes $parts[3]
                    end
                end
                set index (math $index + 1 + $takes)
            case '*'
                echo $index
                return
        end
    end
    echo 0
end

# Is the command $argv[1], and has its program not begun?
function __dunebox_at
    set -l state (__dunebox_state)
    test "$state[1]" = "$argv[1]" -a "$state[2]" = 0
end

function __dunebox_in_program
    set -l state (__dunebox_state)
    test (count $state) = 2; and test $state[2] -gt 0
end

function __dunebox_complete_program
    set -l state (__dunebox_state)
    set -l words (commandline -opc)
    complete -C (string join ' ' -- (string escape -- $words[$state[2]..-1]) (commandline -ct))
end

complete -c dunebox -f
complete -c dunebox -n __fish_is_first_token -l help -d 'print a summary'
complete -c dunebox -n __fish_is_first_token -l version -d 'print the version'
complete -c dunebox -n __dunebox_in_program -a '(__dunebox_complete_program)'
)sh";

std::string FishOption(const CommandRow& command, const OptionRow& option) {
  std::string text = fmt::format("complete -c dunebox -n {}", Quoted(fmt::format("__dunebox_at {}", Quoted(command.name))));
  text += option.name.starts_with("--") ? fmt::format(" -l {}", option.name.substr(2))
                                        : fmt::format(" -s {}", option.name.substr(1));
  if (!option.values.empty()) {
    // -x: it needs a value. With a bare value it only may have one.
    text += fmt::format(" -{} -a {}", option.bare_value.empty() ? "x" : "f",
                        Quoted(fmt::format("{}", fmt::join(option.values, " "))));
  } else if (!option.bare_value.empty()) {
    text += " -f";
  } else if (!option.is_flag()) {
    switch (KindOf(option.value_name)) {
      case WordKind::kFile: text += " -r -F"; break;
      case WordKind::kDirectory: text += " -x -a '(__fish_complete_directories)'"; break;
      case WordKind::kFree: text += " -x"; break;
    }
  }
  return text + fmt::format(" -d {}\n", Quoted(option.help));
}

std::string FishOperands(const CommandRow& command) {
  const std::string begin =
      fmt::format("complete -c dunebox -n {}", Quoted(fmt::format("__dunebox_at {}", Quoted(command.name))));
  switch (command.operands) {
    case Operands::kNone:
    case Operands::kContainer: return {};
    case Operands::kProgram: return begin + " -F -a '(__fish_complete_command)'\n";
    case Operands::kFiles: return begin + " -F\n";
    case Operands::kShell:
    case Operands::kMessage: return begin + fmt::format(" -a '{}'\n", WordsOf(command.operands));
  }
  return {};
}

std::string FishScript() {
  std::vector<std::string> groups;
  std::vector<std::string> takes;
  std::string commands;
  for (const std::string_view first : FirstWords()) {
    commands += fmt::format("complete -c dunebox -n __dunebox_first -a {} -d {}\n", first,
                            Quoted(SummaryOf(first)));
    const std::vector<std::string_view> second = SecondWords(first);
    if (second.empty()) continue;
    groups.emplace_back(first);
    for (const std::string_view word : second) {
      commands += fmt::format("complete -c dunebox -n '__dunebox_second {}' -a {} -d {}\n", first, word,
                              Quoted(SummaryOf(fmt::format("{} {}", first, word))));
    }
  }
  std::string options;
  for (const CommandRow& command : Commands()) {
    for (const OptionRow& option : command.options) {
      options += FishOption(command, option);
      if (WordsBehind(option) == 0) continue;
      takes.push_back(Quoted(fmt::format("{}|{}|{}", command.name, option.name, WordsBehind(option))));
    }
    options += FishOperands(command);
  }
  return fmt::format(
      "# fish completion for dunebox(1), made by `dunebox completion fish`.\n\n"
      "set -g __dunebox_groups {}\nset -g __dunebox_takes {}\n{}\n"
      "function __dunebox_first\n    test (count (commandline -opc)) = 1\nend\n"
      "function __dunebox_second\n    set -l words (commandline -opc)\n"
      "    test (count $words) = 2; and test $words[2] = $argv[1]\nend\n{}{}",
      fmt::join(groups, " "), fmt::join(takes, " "), kFishEnd, commands, options);
}

struct ShellRow {
  std::string_view name;
  std::string (*script)();
};

constexpr ShellRow kShells[] = {{"bash", BashScript}, {"zsh", ZshScript}, {"fish", FishScript}};
constexpr std::array<std::string_view, 3> kNames = {"bash", "zsh", "fish"};

}  // namespace

std::span<const std::string_view> Shells() { return kNames; }

std::string CompletionScript(std::string_view shell) {
  return std::ranges::find(kShells, shell, &ShellRow::name)->script();
}

}  // namespace dunebox::cli

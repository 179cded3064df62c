// A policy in plain words, each statement with where it comes from.
//
// What is told is what the walls were given: after links were followed and files that are not there
// were left out. `policy` is the effective one that `session` was compiled from.
//
//   for (const Statement& statement : Explain(policy, session)) ...
//   std::string text = FormatStatements(Explain(policy, session));
#ifndef DUNEBOX_SANDBOX_POLICY_EXPLAIN_H_
#define DUNEBOX_SANDBOX_POLICY_EXPLAIN_H_

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/session.h"
#include "sandbox/policy/policy.h"

namespace dunebox::policy {

struct Statement {
  std::string_view matter;  // "files", "network", ...; statements of one matter are neighbours
  std::string text;
  OriginText origin;  // empty: nobody said anything
};

std::vector<Statement> Explain(const Policy& policy, const runtime::SessionOptions& session);

// For people: a paragraph a matter, at most 100 columns.
std::string FormatStatements(std::span<const Statement> statements);
// For --dry-run: "policy MATTER: TEXT [ORIGIN]", a line a statement; without those about limits,
// environment, directory and engine, which it tells itself.
std::string ListStatements(std::span<const Statement> statements);

}  // namespace dunebox::policy

#endif  // DUNEBOX_SANDBOX_POLICY_EXPLAIN_H_

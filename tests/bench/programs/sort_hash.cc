// Sorts AMOUNT thousand records with the C library's qsort (a call back for each comparison) and
// counts them in an unordered_map (pointer chasing and allocation).
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <unordered_map>
#include <vector>

#include "arguments.h"

namespace {

struct Record {
  std::uint32_t key;
  std::uint32_t place;
};

int Compare(const void* left, const void* right) {
  const auto* a = static_cast<const Record*>(left);
  const auto* b = static_cast<const Record*>(right);
  if (a->key != b->key) return a->key < b->key ? -1 : 1;
  return a->place < b->place ? -1 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  std::mt19937 random(42);
  std::vector<Record> records;
  const long amount = 1000 * amount_of_work(argc, argv);
  for (long i = 0; i < amount; ++i) {
    records.push_back(
        {static_cast<std::uint32_t>(random() % 100'003), static_cast<std::uint32_t>(i)});
  }
  std::unordered_map<std::uint32_t, std::uint64_t> counts;
  for (const Record& record : records) counts[record.key * 2654435761U] += record.place;
  std::qsort(records.data(), records.size(), sizeof(Record), Compare);
  std::uint64_t sum = counts.size();
  for (const Record& record : records) {
    sum = sum * 1099511628211U + record.place + counts.find(record.key * 2654435761U)->second;
  }
  std::printf("%016lx\n", sum);
}

// PCIDs: which of them each page table has on one vCPU, and whether what the processor remembers under it is right.
//
// Where the processor has PCIDs, going to a table that this vCPU has used before keeps its translations. Of changes a vCPU
// learns in two ways. Its own, of any table: OnChange; INVLPG reaches the active table only, so the others are forgotten
// when they are next loaded. Those of other vCPUs: KVM then makes all of them forget everything, whatever the PCID
// (Hypercall::kFlushAll). A table that is gone and another in its frame look alike: `retired` counts those.
//
// Freestanding, general registers only. A trap's or signal's handler may change tables at any instruction between Prepare and
// Loaded: then the load forgets, or is not believed.
//
//   const TableTags::Use use = tags.Prepare(root, vm.retired_tables);
//   ... CR3 = use.word, or use.word | kKeep if tags.MayKeep(use) still ...
//   tags.Loaded(use);
#ifndef DUNEBOX_LIBDUNE_RING0_BACKEND_TABLE_TAGS_H_
#define DUNEBOX_LIBDUNE_RING0_BACKEND_TABLE_TAGS_H_

// In a vCPU's aliased pages: TableTags, as the assembler sees it.
#define DUNE_BLOCK_TAGS_AT 0x300
#define DUNE_TAGS_PROCESS_LOAD 0x300
#define DUNE_TAGS_USER_KEEP 0x308

#ifndef __ASSEMBLER__

#include <cstddef>
#include <cstdint>

namespace dune::ring0 {

struct TableTags {
  // Of CR3: translations of this PCID stay; and the PCID. [intel/vol3 §4.10.4.1]
  static constexpr std::uint64_t kKeep = std::uint64_t{1} << 63;
  static constexpr std::uint64_t kTag = 0xfff;
  static constexpr std::uint64_t kSlots = 6;

  struct Slot {
    std::uint64_t root;
    std::uint64_t is_right;
  };
  struct Use {
    std::uint64_t word;  // for CR3, without kKeep
    std::uint64_t at;    // `changes` then
  };

  // Written to CR3 when ring 3 stops: the table of ring 0, whose translations stay.
  std::uint64_t process_load;
  // kKeep, or 0, for the table of ring 3 that is about to be loaded; looked at together with the load.
  std::uint64_t user_keep;
  Slot slots[kSlots];  // PCID index + 1; 0 is what a vCPU begins with
  std::uint64_t next;
  std::uint64_t changes;
  std::uint64_t retired;      // as last seen

  static std::uint64_t RootOf(std::uint64_t word) { return word & ~(kKeep | kTag); }

  // A vCPU begins, with PCID 0, and remembers nothing.
  void Reset(std::uint64_t root, bool has_tags) {
    *this = {};
    process_load = has_tags ? root | kKeep : root;
  }

  Use Prepare(std::uint64_t root, std::uint64_t now_retired) {
    if (retired != now_retired) {
      retired = now_retired;
      Forget(/*but=*/0);
    }
    for (std::uint64_t index = 0; index < kSlots; ++index) {
      if (slots[index].root == root) return {root | (index + 1), changes};
    }
    std::uint64_t index = next;
    if (index + 1 == (process_load & kTag)) index = (index + 1) % kSlots;  // ring 3's is another's
    next = (index + 1) % kSlots;
    slots[index] = {.root = root, .is_right = 0};
    return {root | (index + 1), changes};
  }
  bool MayKeep(const Use& use) const {
    const Slot& slot = slots[(use.word & kTag) - 1];
    return slot.root == RootOf(use.word) && slot.is_right != 0;
  }
  // What the processor remembers under that PCID is now the table's; whoever else had it meanwhile has it no more.
  void Loaded(const Use& use) {
    Slot& slot = slots[(use.word & kTag) - 1];
    slot.is_right = slot.root == RootOf(use.word) && use.at == changes ? 1 : 0;
  }
  // After a change of any table, behind the INVLPGs for the one that is active.
  void OnChange(std::uint64_t active_root) {
    ++changes;
    Forget(active_root);
    user_keep = 0;
    if (RootOf(process_load) != active_root) process_load &= ~kKeep;
  }

 private:
  void Forget(std::uint64_t but) {
    for (Slot& slot : slots) {
      if (slot.root != but) slot.is_right = 0;
    }
  }
};
static_assert(offsetof(TableTags, process_load) == DUNE_TAGS_PROCESS_LOAD - DUNE_BLOCK_TAGS_AT);
static_assert(offsetof(TableTags, user_keep) == DUNE_TAGS_USER_KEEP - DUNE_BLOCK_TAGS_AT);

}  // namespace dune::ring0

#endif  // __ASSEMBLER__
#endif  // DUNEBOX_LIBDUNE_RING0_BACKEND_TABLE_TAGS_H_

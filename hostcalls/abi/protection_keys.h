// The protection keys of isolation pku (docs/isolation.md), and what PKRU holds. Two bits a key: the
// lower forbids all access, the upper writing. [intel/vol3 §4.6.2]
//
// The numbers are fixed, so that each WRPKRU is followed by a comparison with a constant of the code.
#ifndef DUNEBOX_HOSTCALLS_ABI_PROTECTION_KEYS_H_
#define DUNEBOX_HOSTCALLS_ABI_PROTECTION_KEYS_H_

#define DUNE_KEY_GUEST 1    // guest memory, and the pages that translated code spills to
#define DUNE_KEY_TABLES 2   // lookup tables, exit pointers, clock pages: read-only to the guest
#define DUNE_KEY_STAGING 3  // copies that the kernel gets in a call that names guest memory, too

#define DUNE_PKRU_GUEST 0x55555561        // key 1 open, key 2 read-only
#define DUNE_PKRU_SYSTEM_CALL 0x55555521  // keys 1 and 3 open, key 2 read-only
#define DUNE_PKRU_RUNTIME 0x55555500      // keys 0 to 3 open

#endif  // DUNEBOX_HOSTCALLS_ABI_PROTECTION_KEYS_H_

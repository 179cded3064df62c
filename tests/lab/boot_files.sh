# shellcheck shell=bash
# Sourced by `run`, which sets lab_folder and has `fail`. Turns Debian's 6.1 kernel package into what QEMU boots, and caches it
# outside the tree: the package itself is fetched once and never installed; a `boot-KEY` directory holds
#
#   vmlinux     the kernel, unpacked here: QEMU starts the ELF file through its PVH entry, which saves the 3 s that unpacking it
#               inside the emulator takes
#   initramfs   busybox, `init` and the few modules below
#
# KEY names the kernel and all of this folder's part in it, so a changed `init` gets a directory of its own. Everything is made
# under a lock in a temporary directory and appears by rename: parallel runs see all of it or nothing.

# What the machine needs to show a 9p overlay and /dev/kvm. Their dependencies are found from the modules themselves.
readonly lab_modules="virtio_pci 9pnet_virtio 9p overlay kvm-amd"
readonly lab_cache=${XDG_CACHE_HOME:-$HOME/.cache}/dunebox/lab

cached_kernel_package() {
  find "$lab_cache" -maxdepth 1 -name 'linux-image-6.1.*_amd64.deb' 2>/dev/null | sort -V | tail -n 1
}

fetch_kernel_package() {
  local package message download=$lab_cache/download-$$
  command -v apt-get >/dev/null || fail "the kernel package needs apt-get"
  package=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-6\.1\.[^ ]*-amd64\)$/\1/p')
  [[ -n $package ]] || fail "apt knows no linux-image-amd64 that depends on a 6.1 kernel (apt-get update?)"
  mkdir "$download"
  if ! message=$(cd "$download" && apt-get -qq -o APT::Sandbox::User=root download "$package" 2>&1); then
    rm -rf "$download"
    fail "apt-get download $package: ${message##*$'\n'}"
  fi
  mv "$download"/*.deb "$lab_cache/"
  rmdir "$download"
}

# unpack_kernel BZIMAGE OUTPUT. The boot protocol's header [linux Documentation/x86/boot.rst] says where the compressed ELF file is;
# its last four bytes are the unpacked length, no part of the xz stream.
unpack_kernel() {
  local setup_sectors start length
  setup_sectors=$(od -An -tu1 -j $((0x1f1)) -N1 "$1")
  start=$(((setup_sectors + 1) * 512 + $(od -An -tu4 -j $((0x248)) -N4 "$1")))
  length=$(($(od -An -tu4 -j $((0x24c)) -N4 "$1") - 4))
  head -c $((start + length)) "$1" | tail -c "$length" | xz -dc >"$2"
}

# list_module TREE NAME: prints the module's file after those of everything it depends on; a module may be listed twice.
list_module() {
  local file dependency
  file=$(find "$1" -name "$2.ko" -o -name "${2//_/-}.ko" -o -name "${2//-/_}.ko" | head -n 1)
  [[ -n $file ]] || fail "the kernel package has no module $2"
  for dependency in $(tr '\0' '\n' <"$file" | sed -n 's/^depends=//p' | tr , ' '); do
    list_module "$1" "$dependency" || return
  done
  echo "$file"
}

# make_initramfs TREE OUTPUT. `init` loads the modules in the order of their names.
make_initramfs() {
  local root=$2.root module modules file number=100
  modules=$(for module in $lab_modules; do list_module "$1" "$module" || exit; done) || return
  mkdir -p "$root"/{bin,modules,dev,proc} &&
    cp "$(command -v busybox)" "$root/bin/busybox" &&
    cp "$lab_folder/init" "$root/init" || return
  while read -r file; do
    cp "$file" "$root/modules/$((number++))-${file##*/}" || return
  done < <(awk '!seen[$0]++' <<<"$modules")
  (cd "$root" && find . | LC_ALL=C sort | cpio --quiet --owner=0:0 -o -H newc) >"$2" && rm -r "$root"
}

# make_boot_directory PACKAGE DIRECTORY. No `set -e`: bash ignores it in a function whose result is tested.
make_boot_directory() {
  local work=$2.$$ status
  mkdir "$work" &&
    dpkg-deb --fsys-tarfile "$1" | tar -x -C "$work" --wildcards './boot/vmlinuz-*' './lib/modules/*.ko' &&
    unpack_kernel "$work"/boot/vmlinuz-* "$work/vmlinux" &&
    make_initramfs "$work/lib/modules" "$work/initramfs" &&
    rm -r "${work:?}/boot" "${work:?}/lib" &&
    mv -T "$work" "$2"
  status=$?
  rm -rf "$work"
  return "$status"
}

# prepare_boot_files: sets boot_directory, making it first if need be.
prepare_boot_files() {
  local package key lock
  mkdir -p "$lab_cache" || fail "cannot make $lab_cache"
  exec {lock}>"$lab_cache/lock"
  flock "$lock"
  package=$(cached_kernel_package)
  if [[ -z $package ]]; then
    fetch_kernel_package
    package=$(cached_kernel_package)
  fi
  key=$({ echo "${package##*/}"; cat "$lab_folder/init" "$lab_folder/boot_files.sh" "$(command -v busybox)"; } | sha256sum)
  boot_directory=$lab_cache/boot-${key:0:16}
  if [[ ! -d $boot_directory ]]; then
    # Those of other versions are dropped when nobody has used them for a week, and what an interrupted run left.
    find "$lab_cache" -maxdepth 1 -type d -name '[bd]o*-*' -mtime +7 -exec rm -rf {} +
    make_boot_directory "$package" "$boot_directory" || fail "cannot unpack ${package##*/} into $lab_cache"
  fi
  touch "$boot_directory"
  exec {lock}>&-
}

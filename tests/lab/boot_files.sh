# shellcheck shell=bash
# Sourced by `run`, which sets lab_folder and kernel and has `fail`. Turns a Debian kernel package into what QEMU boots, and caches
# it outside the tree: the package itself is fetched once and never installed; a `boot-KEY` directory holds
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
  find "$lab_cache" -maxdepth 1 -name "linux-image-$kernel.*_amd64.deb" 2>/dev/null | sort -V | tail -n 1
}

# newest_package APT_OPTION...: the 6.1 kernel is the one that linux-image-amd64 stands for; others are the newest of that version.
newest_package() {
  if [[ $kernel == 6.1 ]]; then
    apt-cache "$@" depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-6\.1\.[^ ]*-amd64\)$/\1/p'
  else
    apt-cache "$@" search --names-only "^linux-image-${kernel//./\\.}\.[0-9]+[^-]*-amd64\$" 2>/dev/null |
      sed 's/ .*//' | sort -V | tail -n 1
  fi
}

# Sets apt_options. Newer kernels are in backports, of which the host's apt need not know: lists of their own, in DIRECTORY. apt
# checks their signature, and the package's hash.
prepare_apt() {
  apt_options=(-o APT::Sandbox::User=root)
  [[ $kernel != 6.1 ]] || return 0
  mkdir -p "$1/lists/partial" "$1/cache/archives/partial"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm-backports main" >"$1/list"
  apt_options+=(-o "Dir::Etc::SourceList=$1/list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$1/lists"
    -o "Dir::Cache=$1/cache" -o Acquire::Languages=none)
  apt-get -qq "${apt_options[@]}" update >&2
}

fetch_kernel_package() {
  local package message apt_options download=$lab_cache/download-$$
  command -v apt-get >/dev/null || fail "the kernel package needs apt-get"
  mkdir "$download"
  prepare_apt "$download/apt"
  package=$(newest_package "${apt_options[@]}")
  if [[ -z $package ]]; then
    rm -rf "$download"
    fail "apt knows no $kernel kernel (apt-get update?)"
  fi
  if ! message=$(cd "$download" && apt-get -qq "${apt_options[@]}" download "$package" 2>&1); then
    rm -rf "$download"
    fail "apt-get download $package: ${message##*$'\n'}"
  fi
  mv "$download"/*.deb "$lab_cache/"
  rm -rf "$download"
}

# unpack_kernel BZIMAGE OUTPUT. The boot protocol's header [linux Documentation/x86/boot.rst] says where the compressed ELF file is
# (xz or zstd); its last four bytes are the unpacked length, no part of the stream.
unpack_kernel() {
  local setup_sectors start length unpack=xz
  setup_sectors=$(od -An -tu1 -j $((0x1f1)) -N1 "$1")
  start=$(((setup_sectors + 1) * 512 + $(od -An -tu4 -j $((0x248)) -N4 "$1")))
  length=$(($(od -An -tu4 -j $((0x24c)) -N4 "$1") - 4))
  [[ $(od -An -tx4 -j "$start" -N4 "$1") != *fd2fb528 ]] || unpack=zstd
  head -c $((start + length)) "$1" | tail -c "$length" | "$unpack" -dc >"$2"
}

# list_module TREE NAME: prints the module's file after those of everything it depends on; a module may be listed twice.
list_module() {
  local file dependency pattern="${2//[-_]/[-_]}.ko"
  file=$(find "$1" -name "$pattern" -o -name "$pattern.xz" | head -n 1)
  if [[ -z $file ]]; then
    ! grep -qr --include=modules.builtin "/$pattern\$" "$1" || return 0
    fail "the kernel package has no module $2"
  fi
  if [[ $file == *.xz ]]; then
    xz -d "$file" || return
    file=${file%.xz}
  fi
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
    dpkg-deb --fsys-tarfile "$1" | tar -x -C "$work" --wildcards './boot/vmlinuz-*' './lib/modules/*.ko' \
      './lib/modules/*.ko.xz' './lib/modules/*/modules.builtin' 2>/dev/null
    # 6.1's modules are not compressed, newer ones are: tar finds one kind only.
    [[ -d $work/lib/modules ]] &&
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

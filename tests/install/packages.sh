#!/bin/bash
# The Debian packages hold what they say: the command runs from where it is unpacked, its pages can be shown, and
# host applications can be built from the others.
# usage: packages.sh BUILD-DIRECTORY CPACK CMAKE C-COMPILER CXX-COMPILER GENERATOR
set -euo pipefail
build=$1 cpack=$2 cmake=$3 cc=$4 cxx=$5 generator=$6
consumer=$(cd "$(dirname "$0")/consumer" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$cpack" --config "$build/CPackConfig.cmake" -B "$work/packages" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
for name in dunebox libdunebox0 libdunebox-dev; do
  package=$(echo "$work/packages/${name}"_*_*.deb)
  [[ "$(dpkg-deb --field "$package" Package)" == "$name" ]]
  dpkg-deb --extract "$package" "$work/root"
done

root=$work/root/usr
[[ "$("$root/bin/dunebox" run -- echo inside)" == inside ]]
"$root/bin/dunebox-oci" --version >/dev/null
for page in man1/dunebox.1.gz man5/dunebox-policy.5.gz man3/libdune.3.gz; do
  gzip --decompress --stdout "$root/share/man/$page" | grep -qE '^\.TH "(dunebox|libdune)'
done
gzip --decompress --stdout "$root/share/man/man1/dunebox.1.gz" | grep -q -- '--engine=auto|kvm|jit'
for script in bash-completion/completions/dunebox zsh/vendor-completions/_dunebox \
    fish/vendor_completions.d/dunebox.fish doc/dunebox/copyright; do
  [[ -s "$root/share/$script" ]] || { echo "$script is missing"; exit 1; }
done
# Prepared translations are made anew by a new version, and go when the package is purged.
dpkg-deb --control "$work/packages/"dunebox_*.deb "$work/control"
for script in postinst postrm; do
  [[ -x "$work/control/$script" ]] || { echo "$script is missing"; exit 1; }
  sed "s:/var/cache/dunebox:$work/cache:; s:dunebox prepare:& --jit-prepared=$work/cache:" "$work/control/$script" >"$work/$script"
  chmod +x "$work/$script"
done
export PATH=$root/bin:$PATH
"$work/postinst" configure
[[ ! -e "$work/cache" ]] || { echo "postinst has made what nobody asked for"; exit 1; }
dunebox prepare --jit-prepared="$work/cache" -- true
rm "$work/cache/"*.blocks
"$work/postinst" configure
[[ -s "$(echo "$work/cache/"*.blocks)" ]] || { echo "postinst has prepared nothing"; exit 1; }
"$work/postrm" remove
[[ -e "$work/cache" ]] || { echo "gone although the package is not purged"; exit 1; }
"$work/postrm" purge
[[ ! -e "$work/cache" ]] || { echo "left behind by a purge"; exit 1; }
# The command needs nothing, the library what it was linked with.
[[ -z "$(dpkg-deb --field "$work/packages/"dunebox_*.deb Depends)" ]]
[[ "$(dpkg-deb --field "$work/packages/"libdunebox0_*.deb Depends)" == *libc6* ]]

"$cmake" -S "$consumer" -B "$work/build" -G "$generator" -DCMAKE_PREFIX_PATH="$root" \
  -DCMAKE_C_COMPILER="$cc" -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_BUILD_TYPE=Release >/dev/null
"$cmake" --build "$work/build"
"$work/build/from_cpp"
LD_LIBRARY_PATH=$root/lib "$work/build/from_c"

# What Debian's own checker calls an error, where it is installed.
if command -v lintian >/dev/null; then
  lintian --allow-root --fail-on error "$work/packages/"*.deb
fi

#!/bin/sh
# Builds a user-mode kernel, with modules, from the source package of a Debian tree's release, in that tree (some 10
# minutes on two processors). What comes of it: OUT/linux, the kernel, and OUT/lib/modules, its modules.
#
#   tools/vm/kernel.sh TREE OUT
set -eu
cd "$(dirname "$0")/../.."

tree=$1
out=$2

build=$out.build
rm -rf --one-file-system "$build"
mkdir -p "$build"
cp tools/vm/uml.config "$build/"
SGDP_BIND=$build tools/vm/chroot.sh "$tree" sh -eu <<'INSIDE'
cd /mnt
apt-get --quiet --quiet update
source=$(apt-cache depends linux-source | sed --quiet 's/^ *Depends: //p' | head --lines 1)
apt-get --quiet --quiet -o APT::Sandbox::User=root download "$source"
dpkg-deb --fsys-tarfile "$source"_*.deb | tar --extract
tar --extract --file usr/src/"$source".tar.xz
cd "$source"
# Before Linux 6.13 there is room for the registers of processors up to AVX-512 only. A host with AMX has 11,008 bytes of
# them, and takes back none but all.
sed --in-place 's/DEFINE_LONGS(HOST_FP_SIZE, 2696)/DEFINE_LONGS(HOST_FP_SIZE, 12288)/' arch/x86/um/user-offsets.c
grep --quiet 'HOST_FP_SIZE, 12288' arch/x86/um/user-offsets.c
# Linux maps a page that a process missed, and those around it. Of these Linux 6.1 tells the host of one alone, so that
# the process misses each of them once more: a start of Python takes half as long again.
if grep --quiet 'flush_tlb_page(vma, address);' arch/um/kernel/trap.c; then
    around='max(vma->vm_start, address \& ~0xffffUL), min(vma->vm_end, (address | 0xffffUL) + 1)'
    sed --in-place "s/flush_tlb_page(vma, address);/flush_tlb_range(vma, $around);/" arch/um/kernel/trap.c
    grep --quiet 'flush_tlb_range(vma, max' arch/um/kernel/trap.c
fi
make --silent ARCH=um KCONFIG_ALLCONFIG=/mnt/uml.config allnoconfig
grep '^CONFIG' /mnt/uml.config | grep --invert-match --line-regexp --fixed-strings --file .config > /mnt/left-out || true
sed 's/^/this kernel has not: /' /mnt/left-out
make --silent ARCH=um -j"$(nproc)" all
make --silent ARCH=um INSTALL_MOD_PATH=/mnt/out INSTALL_MOD_STRIP=1 modules_install
cp linux /mnt/out/linux
strip --strip-debug /mnt/out/linux
rm -f /mnt/out/lib/modules/*/build /mnt/out/lib/modules/*/source
INSIDE
rm -rf --one-file-system "$out"
mv "$build/out" "$out"
mv "$build/left-out" "$out/"
rm -rf --one-file-system "$build"

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
# What a user-mode kernel of 6.1 does and one of 6.12 doesn't, so that processes take twice as long to start there:
if grep --quiet 'force_flush_all();' arch/um/kernel/process.c; then
    # of the pages that it maps around a missed one it tells the host of that one alone, and each of them is missed again
    around='max(vma->vm_start, address \& ~0xffffUL), min(vma->vm_end, (address | 0xffffUL) + 1)'
    sed --in-place "s/flush_tlb_page(vma, address);/flush_tlb_range(vma, $around);/" arch/um/kernel/trap.c
    # a new process begins as a copy of its parent on the host, and has all pages of that mapped anew, also before exec()
    sed --in-place 's/^\tforce_flush_all();$//' arch/um/kernel/process.c
    sed --in-place 's/^\tif (from_mm)$/\tif (0)/' arch/um/kernel/skas/mmu.c
    grep --quiet 'flush_tlb_range(vma, max' arch/um/kernel/trap.c
    grep --quiet 'if (0)' arch/um/kernel/skas/mmu.c
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

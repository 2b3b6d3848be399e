#!/bin/sh
# Makes a disk image of a Debian tree: with this repository in /src and its set-up done (tools/setup.sh), the modules of
# the user-mode kernel beside Debian's own, and tools/vm/guest as what runs in it. Nothing loads a module, nothing is set.
#
#   tools/vm/image.sh TREE UML_KERNEL_FOLDER IMAGE
set -eu
cd "$(dirname "$0")/../.."

tree=$1
uml=$2
image=$3

tools/vm/checkout.sh "$tree"
tools/vm/chroot.sh "$tree" sh -c 'cd /src && tools/setup.sh'
rm -rf "$tree/root/.cache" "$tree/var/cache/apt/archives/"*.deb

cp -a "$uml/lib/modules/." "$tree/usr/lib/modules/"
install -m 755 tools/vm/guest "$tree/usr/local/sbin/sgdp-guest"
install -m 644 tools/vm/sgdp-guest.service "$tree/etc/systemd/system/"
ln -sf /etc/systemd/system/sgdp-guest.service "$tree/etc/systemd/system/multi-user.target.wants/"
# What a machine without a network and without people would wait for, and a server that tests start themselves.
for unit in etcd.service systemd-networkd-wait-online.service systemd-timesyncd.service systemd-firstboot.service serial-getty@ttyS0.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer; do
    ln -sfn /dev/null "$tree/etc/systemd/system/$unit"
done
echo vm >"$tree/etc/hostname"
printf '127.0.0.1 localhost vm\n::1 localhost\n' >"$tree/etc/hosts"
mkdir -p "$tree/job"
: >"$tree/etc/fstab"

rm -f "$image.new"
truncate --size 8G "$image.new"
# The release's own tool may be older than this machine's: no feature that it doesn't know.
mke2fs -q -t ext4 -F -d "$tree" -O '^metadata_csum_seed,^orphan_file' "$image.new"
mv "$image.new" "$image"

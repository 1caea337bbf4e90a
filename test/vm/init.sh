#!/vm/busybox sh
# The first process of the test machine: mounts, modules, then one command; reports its exit status and switches the machine off.
# /vm/settings, /vm/shares and /vm/command are written by initramfs.ts for each run.
export PATH=/vm/applets
. /vm/settings

# DPDK loads no driver below a root that all may write to
chmod 755 /
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm /dev/hugepages
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t hugetlbfs -o pagesize=2M hugetlbfs /dev/hugepages
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
echo /vm/bin/modprobe > /proc/sys/kernel/modprobe
hostname vm
ip link set lo up

modprobe=/vm/bin/modprobe
$modprobe virtio_pci virtio_console 9p 9pnet_virtio
while read -r tag mode path; do
  mkdir -p "$path"
  mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000,$mode" "$tag" "$path" || echo "vm: cannot mount $path"
done < /vm/shares
$modprobe $MODULES

# the ports appear one after the other, the one of the highest number last
tries=0
until [ -c /dev/vport0p4 ] && [ -c /dev/vport0p1 ]; do
  tries=$((tries + 1))
  [ $tries -lt 500 ] || break
  usleep 10000
done

# Kills every process outside of this session, which is number 0, as that of the kernel's threads is.
end_session() {
  for pass in 1 2 3 4 5; do
    found=
    for process in /proc/[0-9]*; do
      read -r line < "$process/stat" || continue
      # state, parent, group, session
      set -- ${line##*) }
      [ "$1" = Z ] || [ "$4" = 0 ] || { found=1 && kill -9 "${process#/proc/}"; }
    done 2> /dev/null
    [ -n "$found" ] || break
  done
}

# the launcher gives up a machine that does not come so far
echo begun > /dev/vport0p1

# A session of its own for the command: what it leaves running is told from what carries its output.
case $INPUT in
  terminal)
    env -i PATH="$COMMAND_PATH" HOME=/root TERM="$TERMINAL" setsid -c /bin/sh /vm/command < /dev/hvc0 > /dev/hvc0 2>&1
    status=$?
    end_session
    ;;
  *)
    # Opened for reading and writing first: opening one end of a FIFO would wait for the other, and a child that ends meanwhile
    # interrupts that.
    mkfifo /vm/in /vm/out /vm/err
    exec 4<> /vm/out 5<> /vm/err 6< /vm/out 7< /vm/err
    cat <&6 > /dev/vport0p3 4>&- 5>&- 6>&- 7>&- &
    out=$!
    cat <&7 > /dev/vport0p4 4>&- 5>&- 6>&- 7>&- &
    err=$!
    exec 6>&- 7>&-
    input=
    if [ "$INPUT" = pipe ]; then
      exec 6<> /vm/in 7< /vm/in
      cat /dev/vport0p2 >&6 4>&- 5>&- 7>&- &
      input=$!
      exec 6>&-
    else
      exec 7< /dev/null
    fi
    env -i PATH="$COMMAND_PATH" HOME=/root TERM=dumb setsid /bin/sh /vm/command <&7 >&4 2>&5 4>&- 5>&- 7>&-
    status=$?
    exec 4>&- 5>&- 7>&-
    end_session
    [ -z "$input" ] || kill "$input" 2> /dev/null
    wait $out $err
    ;;
esac

sync
while read -r tag mode path; do
  case $mode in *rw*) umount "$path" ;; esac
done < /vm/shares
echo "$status" > /dev/vport0p1
poweroff -f

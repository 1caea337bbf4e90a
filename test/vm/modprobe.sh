#!/vm/busybox sh
# modprobe NAME...: loads modules of the test machine; the kernel calls it too, as `modprobe -q -- rtnl-link-veth`.
busybox=/vm/busybox
status=0
quiet=
for name; do
  case $name in
    -q) quiet=1 ;;
  esac
  case $name in
    -*) continue ;;
  esac
  name=${name#rtnl-link-}
  name=${name//-/_}
  if [ -d "/sys/module/$name" ]; then continue; fi
  if [ ! -f "/vm/modules/$name.deps" ]; then
    [ -n "$quiet" ] || echo "modprobe: the test machine has no module $name: add it to MODULES in test/vm/kernel.ts" >&2
    status=1
    continue
  fi
  for module in $($busybox cat "/vm/modules/$name.deps"); do
    [ -d "/sys/module/$module" ] || $busybox insmod "/vm/modules/$module.ko" || status=1
  done
done
exit $status

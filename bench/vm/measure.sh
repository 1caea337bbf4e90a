# Runs inside the test machine: our testpmd and DPDK's in turn, on the kernel's vhost-net. Every line on stdout is a figure:
#
#   CASE PROGRAM VALUE     value: packets per second, microseconds, Mbit per second; - where nothing came through
#
# Arguments: rounds, seconds of a window, cases.
. test/vm/testpmd.sh

ROUNDS=$1
SECONDS_LONG=$2
CASES=$3

OURS=dpdk-ts-testpmd
EAL='-l 0-1 -n 1 --in-memory'
VDEV='path=/dev/vhost-net,queues=1,queue_size=1024'
TESTPMD='-i --nb-cores=1 --txd=1024 --rxd=1024 --total-num-mbufs=16384'
# of a card's ring sizes, which are the device's
CARD_TESTPMD='-i --nb-cores=1 --total-num-mbufs=4096'
OFFLOADS='--tx-offloads=0x2c --rx-offloads=0x1c --enable-lro'
PINGS=200
# a JIT under emulation takes seconds, and thousands of packets, to get to its last tier
WARM_UP=6
WARM_UP_PINGS=4000

title() { if [ "$1" = "$OURS" ]; then echo ours; else echo dpdk; fi; }
wanted() { case ",$CASES," in *",$1,"*) true ;; *) false ;; esac; }
hundredths() {
  read -r now rest < /proc/uptime
  echo "${now%.*}${now#*.}"
}
middle() { sort -n | awk '{ all[NR] = $1 } END { if (NR) print all[int((NR + 1) / 2)]; else print "-" }'; }

# one port: txonly, icmpecho
single() {
  # shellcheck disable=SC2086 -- words
  launch t "$1" $EAL --no-pci --vdev=virtio_user0,$VDEV,mac=02:00:00:00:00:0a -- $TESTPMD
  quiet_interface tap0
  ip addr add 192.168.1.1/24 dev tap0
  ip link set tap0 up
  if wanted txonly; then
    tell t 'set fwd txonly'
    tell t start
    sleep $WARM_UP
    packets=$(value tap0 statistics/rx_packets) from=$(hundredths)
    sleep "$SECONDS_LONG"
    packets=$(($(value tap0 statistics/rx_packets) - packets)) time=$(($(hundredths) - from))
    tell t stop
    echo "txonly $(title "$1") $((packets * 100 / time))"
  fi
  if wanted ping; then
    tell t 'set fwd icmpecho'
    tell t start
    ping -q -f -l 16 -c $WARM_UP_PINGS -W 4 192.168.1.2 > /dev/null
    milliseconds=$(ping -c $PINGS -i 0.01 -W 4 192.168.1.2 | sed -n 's/.*time=\([0-9.]*\) ms/\1/p' | middle)
    tell t stop
    echo "ping $(title "$1") $(echo "$milliseconds" | awk '{ print $1 == "-" ? "-" : $1 * 1000 }')"
  fi
  leave t
}

# two ports, a namespace behind each: TCP from one to the other
double() {
  which=$1 program=$2
  shift 2
  # shellcheck disable=SC2086 -- words
  launch t "$program" $EAL --no-pci --vdev=virtio_user0,$VDEV,mac=02:00:00:00:00:0a --vdev=virtio_user1,$VDEV,mac=02:00:00:00:00:0b \
    -- $TESTPMD "$@"
  namespaces_behind_taps
  case $which in
    tcp-csum)
      tell t 'port stop all'
      tell t 'tso set 1460 0'
      tell t 'tso set 1460 1'
      tell t 'port start all'
      ;;
  esac
  tell t start
  ip netns exec ns1 iperf3 -s -1 > /dev/null 2>&1 &
  server=$!
  sleep 1
  rate=$(timeout $((SECONDS_LONG + WARM_UP + 20)) ip netns exec ns0 iperf3 -c 10.0.0.2 -t "$SECONDS_LONG" -O $WARM_UP -f m 2> /dev/null |
    sed -n 's/.* \([0-9.]*\) Mbits\/sec .*receiver.*/\1/p')
  kill $server 2> /dev/null
  wait $server
  tell t stop
  case ${rate:-0} in 0 | 0.00) rate=- ;; esac
  echo "$which $(title "$program") $rate"
  leave t
  ip netns del ns0
  ip netns del ns1
}

# a rate of packets that a command tells
rate_of() {
  packets=$("$@") from=$(hundredths)
  sleep "$SECONDS_LONG"
  packets=$(($("$@") - packets)) time=$(($(hundredths) - from))
  echo $((packets * 100 / time))
}
received_by() { say "$1" 'show port stats 0' | sed -n 's/.*RX-packets: \([0-9]*\) .*/\1/p'; }

# a card whose other end is the kernel's: txonly
card_sends() {
  # shellcheck disable=SC2086 -- words
  launch t "$1" $EAL -a 0000:00:10.0 -- $CARD_TESTPMD --forward-mode=txonly --eth-peer=0,02:00:00:00:00:11
  tell t start
  sleep $WARM_UP
  echo "vfio-txonly $(title "$1") $(rate_of value eth1 statistics/rx_packets)"
  tell t stop
  leave t
}

# a card whose other end sends, as fast as DPDK can
card_receives() {
  # shellcheck disable=SC2086 -- words
  launch t "$1" $EAL -a 0000:00:12.0 -- $CARD_TESTPMD --forward-mode=rxonly
  # shellcheck disable=SC2086 -- words
  launch s dpdk-testpmd -l 2-3 -n 1 --in-memory -a 0000:00:13.0 -- $CARD_TESTPMD --forward-mode=txonly --eth-peer=0,02:00:00:00:00:12
  tell t start
  tell s start
  sleep $WARM_UP
  echo "vfio-rxonly $(title "$1") $(rate_of received_by t)"
  tell s stop
  leave s
  leave t
}

if wanted vfio-txonly || wanted vfio-rxonly; then
  for slot in 10 12 13; do dpdk-ts-devbind --bind=vfio-pci 0000:00:$slot.0; done
  quiet_interface eth1
  ip link set eth1 up
fi

for round in $(seq "$ROUNDS"); do
  # who begins changes with the round
  if [ $((round % 2)) = 1 ]; then programs="$OURS dpdk-testpmd"; else programs="dpdk-testpmd $OURS"; fi
  for program in $programs; do
    if wanted txonly || wanted ping; then single "$program"; fi
    if wanted vfio-txonly; then card_sends "$program"; fi
    if wanted vfio-rxonly; then card_receives "$program"; fi
    if wanted tcp-io; then double tcp-io "$program"; fi
    # shellcheck disable=SC2086 -- words
    if wanted tcp-io-offloads; then double tcp-io-offloads "$program" $OFFLOADS; fi
    # shellcheck disable=SC2086 -- words
    if wanted tcp-csum; then
      double tcp-csum "$program" $OFFLOADS --forward-mode=csum --eth-peer=0,02:00:00:00:00:0a --eth-peer=1,02:00:00:00:00:0b
    fi
  done
done

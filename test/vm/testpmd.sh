# Drives testpmds inside the test machine by their prompts; sourced by the commands of the tests.
#
#   launch NAME PROGRAM ARGUMENT...   starts a testpmd and waits for its prompt, or without -i for its `Press enter to exit`
#   say NAME COMMAND                  types a command, waits for the next prompt, prints the answer
#   tell NAME COMMAND                 the same, printing nothing
#   leave NAME                        types quit, which is also the line that ends one without -i; its status is the program's
#   until_true SECONDS COMMAND...     repeats a command until it succeeds
#   echoes COUNT COMMAND...           so many times a ping of one packet, and `COUNT of COUNT answered`
#   namespaces_behind_taps            ns0 with tap0 as 10.0.0.1 and ns1 with tap1 as 10.0.0.2, their addresses 02:00:00:00:00:0a and :0b
#   monitor COMMAND [ARGUMENTS]       has QEMU execute a command of QMP; ARGUMENTS: a JSON object (the machine needs its monitor)
#   bind DRIVER ADDRESS...            gives PCI devices to a driver
#   mark TEXT                         begins a section of the output
#
# What NAME printed is in /tmp/NAME.log, its process number in /tmp/NAME.pid. What does not come about in its time ends everything
# with status 97 and the last that the programs printed.

# Seconds for a program to answer: a busy host has the machine wait.
PATIENCE=60

# what a program that crashes leaves to give_up, its executable in the name
ulimit -c unlimited
echo '/tmp/core.%p.%E' > /proc/sys/kernel/core_pattern

mark() { printf '\n== %s\n' "$1"; }
value() { cat "/sys/class/net/$1/$2"; }
# an interface on which only the test sends
quiet_interface() { echo 1 > "/proc/sys/net/ipv6/conf/$1/disable_ipv6"; }
prompts() { grep -o 'testpmd> ' "/tmp/$1.log" | wc -l; }
has_prompts() { [ "$(prompts "$1")" -ge "$2" ]; }
printed() { grep -q -e "$2" "/tmp/$1.log"; }

# Where the programs that crashed were, and what their frames held. In a Deoptimizer of V8 11.3, r12 is its address: isolate, function,
# code, (unused), kind, return address, distance of the frame pointer from the stack pointer; the code has the number of its stack slots.
tell_crashes() {
  for core in /tmp/core.*; do
    [ -e "$core" ] || continue
    executable=$(echo "${core#/tmp/core.*.}" | tr '!' /)
    gdb -batch -ex 'backtrace 20' -ex 'frame apply 8 -s info registers rip rsp rbp rbx r12 r13 r14 r15' \
      -ex 'frame apply 8 -s x/8gx $r12' -ex 'frame apply 8 -s x/12gx *(long *)($r12 + 16) - 1' "$executable" "$core"
  done
}

seconds() {
  read -r now rest < /proc/uptime
  echo "${now%.*}"
}

# on the error output, as what a command prints may go nowhere
give_up() {
  echo "$*, $(seconds) s after the machine's start" >&2
  ip -s link >&2
  # without a prompt, a program tells its statistics at its end
  for input in /tmp/*.in; do echo 1<> "$input"; done
  sleep 2
  tail -n 40 /tmp/*.log >&2
  for pid in /tmp/*.pid; do
    name=${pid#/tmp/}
    name=${name%.pid}
    if has_ended "$name"; then
      wait "$(cat "$pid")"
      echo "$name ended with status $?" >&2
      [ -e "/proc/$(cat "/tmp/$name.holder")" ] || echo "and so had its input" >&2
    fi
  done
  # a program that crashed is named there
  dmesg | tail -n 20 >&2
  ! command -v gdb > /dev/null || tell_crashes >&2
  exit 97
}

# counts attempts as well: the clock of an emulated machine may leap
until_true() {
  end=$(($(seconds) + $1))
  attempts=$(($1 * 4))
  shift
  until "$@"; do
    attempts=$((attempts - 1))
    [ "$attempts" -gt 0 ] || [ "$(seconds)" -lt "$end" ] || give_up "in vain: $*"
    sleep 0.1
  done
}

# Of several packets, ping waits for the last answer no longer than for an interval, or twice as long as for the others.
echoes() {
  answered=0
  count=$1
  shift
  for number in $(seq "$count"); do
    ! "$@" -c 1 -W 10 || answered=$((answered + 1))
  done
  echo "$answered of $count answered"
}

has_ended() {
  case "$(cat "/proc/$(cat "/tmp/$1.pid")/stat" 2> /dev/null)" in
    '' | *') Z '*) true ;;
    *) false ;;
  esac
}

is_ready() { printed "$1" 'testpmd> ' || printed "$1" 'Press enter to exit' || has_ended "$1"; }

launch() {
  name=$1
  shift
  rm -f "/tmp/$name.in"
  mkfifo "/tmp/$name.in"
  : > "/tmp/$name.log"
  stdbuf -o0 "$@" < "/tmp/$name.in" > "/tmp/$name.log" 2>&1 &
  echo $! > "/tmp/$name.pid"
  # the input stays open between two commands, even where the machine's clock leaps
  sleep infinity > "/tmp/$name.in" &
  echo $! > "/tmp/$name.holder"
  until_true $PATIENCE is_ready "$name"
  ! has_ended "$name" || give_up "ended: $*"
}

# opened for reading, too: a program that has died would have the shell wait for a reader for ever
type_line() { printf '%s\n' "$2" 1<> "/tmp/$1.in"; }
has_prompts_or_ended() { has_prompts "$@" || has_ended "$1"; }

say() {
  seen=$(prompts "$1")
  from=$(wc -c < "/tmp/$1.log")
  type_line "$1" "$2"
  until_true $PATIENCE has_prompts_or_ended "$1" $((seen + 1))
  ! has_ended "$1" || give_up "ended after '$2'"
  tail -c +$((from + 1)) "/tmp/$1.log"
  echo
}

tell() { say "$@" > /dev/null; }

leave() {
  type_line "$1" quit
  kill "$(cat "/tmp/$1.holder")"
  until_true $PATIENCE has_ended "$1"
  wait "$(cat "/tmp/$1.pid")"
}

namespaces_behind_taps() {
  for number in 0 1; do
    quiet_interface tap$number
    ip netns add ns$number
    ip link set tap$number netns ns$number
    ip -n ns$number addr add 10.0.0.$((number + 1))/24 dev tap$number
    ip -n ns$number link set lo up
    ip -n ns$number link set tap$number up
  done
  # the csum mode rewrites Ethernet addresses, and so breaks ARP
  ip -n ns0 neigh add 10.0.0.2 lladdr 02:00:00:00:00:0b dev tap0 nud permanent
  ip -n ns1 neigh add 10.0.0.1 lladdr 02:00:00:00:00:0a dev tap1 nud permanent
}

monitor() {
  [ -n "$monitor_open" ] || echo '{"execute": "qmp_capabilities"}' > /dev/vport0p5
  monitor_open=1
  printf '{"execute": "%s", "arguments": %s}\n' "$1" "${2:-{\}}" > /dev/vport0p5
}

bind() {
  dpdk-ts-devbind --bind="$@" || give_up "not bound: $*"
}

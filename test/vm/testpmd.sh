# Drives testpmds inside the test machine by their prompts; sourced by the commands of the tests.
#
#   launch NAME PROGRAM ARGUMENT...   starts a testpmd and waits for its prompt
#   say NAME COMMAND                  types a command, waits for the next prompt, prints the answer
#   leave NAME                        types quit; its status is the program's
#   until_true SECONDS COMMAND...     repeats a command until it succeeds
#
# What NAME printed is in /tmp/NAME.log, its process number in /tmp/NAME.pid.

prompts() { grep -o 'testpmd> ' "/tmp/$1.log" | wc -l; }
has_prompts() { [ "$(prompts "$1")" -ge "$2" ]; }
value() { cat "/sys/class/net/$1/$2"; }

until_true() {
  tries=$(($1 * 20))
  shift
  until "$@"; do
    tries=$((tries - 1))
    if [ "$tries" -le 0 ]; then
      echo "in vain: $*"
      tail -n 40 /tmp/*.log
      exit 97
    fi
    sleep 0.05
  done
}

launch() {
  name=$1
  shift
  mkfifo "/tmp/$name.in"
  : > "/tmp/$name.log"
  stdbuf -o0 "$@" < "/tmp/$name.in" > "/tmp/$name.log" 2>&1 &
  echo $! > "/tmp/$name.pid"
  # the input stays open between two commands
  sleep 100000 > "/tmp/$name.in" &
  until_true 60 has_prompts "$name" 1
}

say() {
  seen=$(prompts "$1")
  from=$(wc -c < "/tmp/$1.log")
  printf '%s\n' "$2" > "/tmp/$1.in"
  until_true 60 has_prompts "$1" $((seen + 1))
  tail -c +$((from + 1)) "/tmp/$1.log"
}

leave() {
  echo quit > "/tmp/$1.in"
  wait "$(cat "/tmp/$1.pid")"
}

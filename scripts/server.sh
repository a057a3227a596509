# Starts and stops a server for a measurement. Sourced by other scripts.
#
# A server is any program that prints "listening on http://ADDRESS:PORT" and answers GET /healthz with 200. With
# https, it answers plain HTTP with 400.

SERVER_PID=
SERVER_SCHEME=
SERVER_ADDRESS=

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

need_commands() {
  local command
  for command in "$@"; do
    command -v "$command" >/dev/null || fail "needs $command, which is not installed"
  done
}

# A server with 10,000 clients needs as many descriptors, and so does loadgen.
raise_descriptor_limit() {
  ulimit -Sn "$(ulimit -Hn)" || true
}

# start_server CORES LOG COMMAND…: returns when the server is healthy; sets SERVER_PID, SERVER_SCHEME and
# SERVER_ADDRESS.
start_server() {
  local cores=$1 log=$2
  shift 2
  taskset --cpu-list "$cores" "$@" >"$log" 2>&1 &
  SERVER_PID=$!
  local deadline=$((SECONDS + 10))
  SERVER_ADDRESS=
  until [[ -n $SERVER_ADDRESS ]] && is_healthy; do
    if ! kill -0 "$SERVER_PID" 2>/dev/null; then
      cat "$log" >&2
      SERVER_PID=
      fail "the server did not start: $*"
    fi
    ((SECONDS < deadline)) || fail "the server was not healthy within 10 s; see $log"
    sleep 0.05
    IFS=' ' read -r SERVER_SCHEME SERVER_ADDRESS \
      < <(sed -nE 's|.*listening on (https?)://([^ ]*).*|\1 \2|p' "$log" | head -n 1) || true
  done
}

is_healthy() {
  local host=${SERVER_ADDRESS%:*} port=${SERVER_ADDRESS##*:} status=
  host=${host#[} host=${host%]}
  {
    exec 3<>"/dev/tcp/$host/$port" || return 1
    printf 'GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n' "$SERVER_ADDRESS" >&3
    IFS= read -r -t 1 status <&3 || true
    exec 3>&-
  } 2>/dev/null
  case $SERVER_SCHEME in
    http) [[ $status == "HTTP/1.1 200 "* ]] ;;
    https) [[ $status == "HTTP/1.1 400 "* ]] ;;
  esac
}

# Asks the server to stop, and kills it after a while.
stop_server() {
  [[ -n $SERVER_PID ]] || return 0
  local pid=$SERVER_PID deadline=$((SECONDS + 15))
  SERVER_PID=
  kill -TERM "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do
    if ((SECONDS >= deadline)); then
      echo "the server did not stop and is killed" >&2
      kill -KILL "$pid" 2>/dev/null || true
    fi
    sleep 0.05
  done
  wait "$pid" 2>/dev/null || true
}

trap stop_server EXIT
# A signal ends the script, and the end stops the server.
trap 'exit 130' INT
trap 'exit 143' TERM

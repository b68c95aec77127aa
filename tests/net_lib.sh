# shellcheck shell=bash disable=SC2034
# Sourced after lib.sh by what tests the network: initrds with Debian's modules, and network
# namespaces made for the test alone.
net_modules="net/core/failover net/net_failover net/virtio_net"
vsock_modules="net/vmw_vsock/vsock net/vmw_vsock/vmw_vsock_virtio_transport_common
    net/vmw_vsock/vmw_vsock_virtio_transport"

# make_initrd OUT MODULES FILE…: what the guest does is read from stdin.
make_initrd() {
    local out=$1 list=$2
    shift 2
    cat >"$tmp/script"
    MODULES=$list tests/guest_initrd.sh "$out" "$tmp/script" "$@"
}

# Why no namespace with a tap can be had here; empty: it can.
no_netns() {
    if [ "$(id -u)" -ne 0 ]; then
        echo "not root"
    elif ! command -v ip >/dev/null; then
        echo "no ip (iproute2)"
    elif [ ! -c /dev/net/tun ]; then
        echo "no /dev/net/tun"
    elif ! ip netns add "$ns" 2>/dev/null; then
        echo "no network namespaces"
    else
        ip netns exec "$ns" ip link set lo up 2>/dev/null
        ip netns exec "$ns" ip tuntap add dev probe mode tap 2>/dev/null || echo "no taps"
        ip netns exec "$ns" ip link del probe 2>/dev/null
    fi
}
needs_netns() { # NAME: or this is the end
    local why
    why=$(no_netns)
    if [ -n "$why" ]; then
        skipped "$1" "$why"
        finish
    fi
}
ns=mayfly-$$
inside() { ip netns exec "$ns" "$@"; }
pids=()
background() { # COMMAND…: until the test ends
    "$@" &
    pids+=($!)
}
net_cleanup() {
    for p in "${pids[@]}"; do kill "$p" 2>/dev/null; done
    ip netns del "$ns" 2>/dev/null
    rm -rf "$tmp"
}
trap net_cleanup EXIT
# tap NAME HOST_ADDRESS/BITS: in the namespace
make_tap() {
    inside ip tuntap add dev "$1" mode tap && inside ip addr add "$2" dev "$1" &&
        inside ip link set "$1" up
}
# A value from --stats=FILE: stat_of FILE JSON_PATH (as a python expression on d)
stat_of() { python3 -c "import json,sys; d=json.load(open('$1')); print($2)" 2>/dev/null; }
# http_get HOST PORT PATH: the body, with nothing but bash
http_get() {
    exec 3<>"/dev/tcp/$1/$2" || return 1
    printf 'GET %s HTTP/1.0\r\n\r\n' "$3" >&3
    while IFS= read -r line <&3 && [ "$line" != $'\r' ] && [ -n "$line" ]; do :; done
    cat <&3
    exec 3<&-
}

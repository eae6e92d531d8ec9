# What the scripts share: installing what is missing, finding a Rust toolchain, hugepages, wires between network
# namespaces. Sourced, not run.
# shellcheck shell=bash

export LC_ALL=C.UTF-8

# The oldest Rust that builds culvert; Cargo.toml's rust-version.
readonly RUST_MINOR=88

note() { printf '\n== %s\n' "$*"; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

is_root() { [[ $(id -u) == 0 ]]; }

is_installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

# install_packages PACKAGE…: those that are not there yet, after one apt-get update.
install_packages() {
    command -v apt-get >/dev/null || fail "this script installs packages with apt-get (Debian 12, Ubuntu 24.04); install by hand: $*"
    local package missing=()
    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    is_root || fail "not installed: ${missing[*]}; run this once as root"
    note "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    if [[ -z ${APT_UPDATED:-} ]]; then
        apt-get -q update || fail "apt-get update does not work"
        APT_UPDATED=yes
    fi
    apt-get -q -y --no-install-recommends install "${missing[@]}" || fail "apt-get cannot install ${missing[*]}"
}

# What building needs.
install_build_packages() {
    install_packages build-essential ca-certificates curl pkgconf dpdk dpdk-dev libdpdk-dev clang libclang-dev
}

# What namespaces, traffic and looking at packets need.
install_network_packages() {
    install_packages iproute2 iputils-ping ethtool tcpdump tshark python3 python3-scapy jq socat
}

rust_is_new_enough() {
    local version minor
    version=$(cargo --version 2>/dev/null) || return 1
    minor=${version#cargo 1.}
    minor=${minor%%.*}
    [[ $minor =~ ^[0-9]+$ ]] && ((minor >= RUST_MINOR)) && cargo fmt --version &>/dev/null && cargo clippy --version &>/dev/null
}

# A Rust toolchain with rustfmt and clippy: the one on PATH, else the one that rustup gives.
find_rust() {
    rust_is_new_enough && return
    if [[ -f $HOME/.cargo/env ]]; then
        # shellcheck source=/dev/null
        source "$HOME/.cargo/env"
        rust_is_new_enough && return
    fi
    note "Rust 1.$RUST_MINOR or newer with rustfmt and clippy is not here; rustup brings it"
    if ! command -v rustup >/dev/null && apt-cache show rustup &>/dev/null; then
        install_packages rustup
    fi
    if command -v rustup >/dev/null; then
        rustup toolchain install stable --profile default || fail "rustup cannot install the stable toolchain"
        export RUSTUP_TOOLCHAIN=stable
    else
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile default ||
            fail "no Rust 1.$RUST_MINOR or newer, and https://sh.rustup.rs cannot be reached: install one and run this again"
        # shellcheck source=/dev/null
        source "$HOME/.cargo/env"
    fi
    rust_is_new_enough || fail "Rust 1.$RUST_MINOR or newer with rustfmt and clippy expected, found: $(cargo --version 2>&1)"
}

# Free hugepages in MiB, all sizes together.
free_hugepages() {
    local folder total=0 size count
    for folder in /sys/kernel/mm/hugepages/hugepages-*kB; do
        [[ -r $folder/free_hugepages ]] || continue
        size=${folder##*hugepages-}
        size=${size%kB}
        count=$(<"$folder/free_hugepages")
        total=$((total + size * count / 1024))
    done
    echo "$total"
}

# What follows is about network namespaces whose names begin with $NS and a hyphen.

at() { # at NAMESPACE COMMAND…
    local name=$1
    shift
    ip netns exec "$NS-$name" "$@"
}

begin() { # begin NAMESPACE COMMAND…: the same in the background, in $!, and in pids, which whoever cleans up kills
    local name=$1
    shift
    # Not by at: $! would be a shell's, whose child outlives it.
    ip netns exec "$NS-$name" "$@" &
    pids+=($!)
}

# await SECONDS WHAT COMMAND…: until the command succeeds
await() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" &>/dev/null; do
        ((SECONDS < deadline)) || fail "$what: not in time"
        sleep 0.1
    done
}

# wire NAMESPACE INTERFACE NAMESPACE INTERFACE: packets cross it as they are, nothing is left to offloads.
wire() {
    ip link add "$2" netns "$NS-$1" type veth peer name "$4" netns "$NS-$3"
    local end
    for end in "$1 $2" "$3 $4"; do
        # shellcheck disable=SC2086
        set -- $end
        at "$1" ethtool -K "$2" tx off rx off tso off gso off gro off >/dev/null 2>&1
        at "$1" ip link set "$2" up
    done
}

# tie NAMESPACE TAP WIRE: what comes in by one leaves by the other. No bridge, which would look at MAC addresses.
tie() {
    local from to
    for from in "$2" "$3"; do
        to=$3
        [[ $from == "$2" ]] || to=$2
        at "$1" ip link set "$from" up
        at "$1" tc qdisc show dev "$from" ingress | grep -q ingress || at "$1" tc qdisc add dev "$from" ingress
        at "$1" tc filter add dev "$from" parent ffff: protocol all prio 1 u32 match u8 0 0 action mirred egress redirect dev "$to"
    done
}

# What the scripts share: installing what is missing, finding a Rust toolchain, hugepages. Sourced, not run.
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

#!/usr/bin/env bash
# Builds Rust's standard library for other systems, from Debian's sources of it: build-std.sh SYSROOT SCRATCH TARGET...
# The compiler must be the one that the sources belong to (rustc-web, rust-web-src), so the distribution's own programs are called by path.
set -euo pipefail
sysroot=$1 scratch=$2
shift 2
host=$(/usr/bin/rustc -vV | sed -n 's/^host: //p')
mkdir -p "$sysroot/lib/rustlib" "$scratch/src"
ln -sfn "/usr/lib/rustlib/$host" "$sysroot/lib/rustlib/$host"
cd "$scratch"
cat > Cargo.toml <<'TOML'
[package]
name = "stdseed"
version = "0.0.0"
edition = "2021"
[lib]
[profile.release]
opt-level = 1
debug = 0
incremental = false
[workspace]
TOML
: > src/lib.rs
# Variables of a surrounding cargo or rustup would choose another compiler.
unset RUSTUP_TOOLCHAIN RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET
export RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc CARGO=/usr/bin/cargo CARGO_TARGET_DIR="$scratch/target" RUSTFLAGS=-Cembed-bitcode=yes
for target in "$@"; do
    directory="$sysroot/lib/rustlib/$target/lib"
    [ -e "$directory/complete" ] && continue
    /usr/bin/cargo build --release --quiet -Zbuild-std=std,test,panic_unwind,panic_abort --target "$target"
    rm -rf "$directory"
    mkdir -p "$directory"
    find "target/$target/release/deps" -name '*.rlib' ! -name '*stdseed*' -exec cp {} "$directory/" \;
    if [ "$target" = x86_64-pc-windows-gnu ]; then
        for object in rsbegin rsend; do
            /usr/bin/rustc --target "$target" --sysroot "$sysroot" --emit=obj -o "$directory/$object.o" "/usr/lib/rustlib/src/rust/library/rtstartup/$object.rs"
        done
    fi
    : > "$directory/complete"
    rm -rf "target/$target"
done

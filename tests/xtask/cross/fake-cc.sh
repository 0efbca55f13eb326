#!/usr/bin/env bash
# Stands in for a C compiler where nothing is linked: type-checking Rust for macOS runs build scripts that want object files, not their
# content. It checks no C, and what it makes must never be linked.
output=
while [ $# -gt 0 ]; do
    case "$1" in
        -o) output=$2; shift ;;
        -E) exec gcc -E "${@:2}" ;;
        -Fo*) output=${1#-Fo} ;;
        -out:*) output=${1#-out:} ;;
    esac
    shift
done
[ -z "$output" ] || : > "$output"

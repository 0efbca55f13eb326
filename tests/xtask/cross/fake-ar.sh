#!/usr/bin/env bash
# Stands in for an archiver beside fake-cc.sh: an archive with nothing in it.
for word in "$@"; do
    case "$word" in
        -out:* | /out:* | -OUT:*) printf '!<arch>\n' > "${word#?[oO][uU][tT]:}" ;;
        -*) ;;
        *.a | *.lib) [ -s "$word" ] || printf '!<arch>\n' > "$word" ;;
    esac
done

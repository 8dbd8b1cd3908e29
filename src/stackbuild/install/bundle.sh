#!/bin/sh
# stackbuild bundle, format 1: @LAYER@ for @PLATFORM@
# It unpacks the tar.gz archive behind this script once, and starts the layer.
#   --extract DIR   unpack the layers to DIR     --verify   check the archive
# All other arguments are for the program; after a first -- these two are, too.
__main() {
    __cache=${STACKBUILD_BUNDLES-}
    if [ -z "$__cache" ]; then
        case ${XDG_CACHE_HOME-} in
            /*) __cache=$XDG_CACHE_HOME/stackbuild-bundles ;;
            *) __cache=${HOME:+$HOME/@CACHE@/stackbuild-bundles} ;;
        esac
    fi
    case $__cache in
        '' | /*) ;;
        *) __cache=$PWD/$__cache ;;
    esac
    __tree=$__cache/@NAME@
    case ${1-} in
        --extract) shift && __extract "$@" ;;
        --verify) __verify && echo "sha256 @SHA256@: correct" ;;
        --)
            shift
            __start "$@"
            ;;
        *) __start "$@" ;;
    esac
}

__start() {
    [ -d "$__tree" ] || __unpack_once
    unset PYTHONHOME __PYVENV_LAUNCHER__
@VARIABLES@    export VIRTUAL_ENV="$__tree"/@DIRECTORY@
    export PATH="$VIRTUAL_ENV/bin${PATH:+:$PATH}"
    exec "$VIRTUAL_ENV"/@COMMAND@ "$@"
}

__fail() {
    printf '%s: error: %s\n' "$0" "$1" >&2
    exit 125
}

__verify() {
    [ -r "$0" ] || __fail 'the bundle cannot be read; start it with its path'
    for __tool in tail gzip tar; do
        command -v $__tool >/dev/null || __fail "this machine has no program $__tool"
    done
@CHECKSUM@
    __found=$(tail -c +@START@ <"$0" | $__sum)
    [ "${__found%% *}" = @SHA256@ ] || __fail "the bundle is damaged; copy it again
  expected: sha256 @SHA256@
  found: sha256 ${__found%% *}"
}

# Unpack into the directory $1, which is new. It is removed if the script ends early.
__unpack() {
    __verify
    __work=$1
    trap '__clean' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    rm -rf "$__work"
    mkdir -p "$__work" || __fail "$__work cannot be created"
    # Files tell which parts of the pipe succeeded. After three lines of errors tar is stopped.
    {
        tail -c +@START@ <"$0" | { gzip -dc && : >"$__work/.gzip"; } |
            tar -xof - -C "$__work" && : >"$__work/.tar"
    } 2>&1 | head -n 3 >&2
    [ -f "$__work/.gzip" ] && [ -f "$__work/.tar" ] && rm "$__work/.gzip" "$__work/.tar" ||
        __fail "the layers cannot be unpacked into $__work"
}

__clean() {
    [ -z "${__work-}" ] || rm -rf "$__work"
    [ -z "${__lock-}" ] || rm -rf "$__lock"
}

__extract() {
    [ $# = 1 ] && [ -n "$1" ] || __fail 'usage: --extract DIR'
    __to=${1%/}
    case $__to in
        /*) ;;
        *) __to=./$__to ;;
    esac
    rmdir "$__to" 2>/dev/null
    [ ! -e "$__to" ] && [ ! -h "$__to" ] || __fail "$1 exists and is not an empty directory"
    __unpack "$__to.$$.partial"
    mv "$__work" "$__to" || __fail "$1 cannot be created"
    __work=
}

# The lock only saves work: layers are unpacked under another name, which is then changed. So it may
# be taken from a process that has ended, or, on another machine that shares the directory, from one
# that takes very long.
__unpack_once() {
    [ -n "$__cache" ] ||
        __fail 'HOME is not set; set STACKBUILD_BUNDLES to a directory for the unpacked layers'
    mkdir -p "$__cache" && [ -w "$__cache" ] ||
        __fail "$__cache is not writable; set STACKBUILD_BUNDLES to another directory"
    __host=$(uname -n)
    __work=
    __waited=0
    until mkdir "$__tree.lock" 2>/dev/null; do
        [ ! -d "$__tree" ] || return 0
        __holder=
        read -r __holder 2>/dev/null <"$__tree.lock/holder"
        if __has_ended "$__holder" || [ $__waited -ge 120 ] ||
            { [ -z "$__holder" ] && [ $__waited -ge 5 ]; }; then
            rm -rf "$__tree.lock"
        else
            [ $__waited != 0 ] || [ ! -t 2 ] ||
                echo "waiting for process $__holder, which unpacks @LAYER@" >&2
            sleep 1
        fi
        __waited=$((__waited + 1))
        [ $__waited -lt 300 ] || __fail "$__tree.lock cannot be removed; remove it"
    done
    __lock=$__tree.lock
    trap '__clean' EXIT
    echo "$__host.$$" >"$__lock/holder"
    if [ ! -d "$__tree" ]; then
        __sweep
        [ ! -t 2 ] || echo "unpacking @LAYER@ into $__tree" >&2
        __unpack "$__tree.$__host.$$.partial"
        "$__work"/@RUNTIME@ -I -S -B -c "$__rename" "$__work" "$__tree" ||
            __fail 'the interpreter of the bundle does not run here; it is for @PLATFORM@'
        __sweep
    fi
    __clean
    trap - EXIT HUP INT TERM
}

# Remove what processes left that were killed. Their tar may still be writing.
__sweep() {
    for __old in "$__tree".*.partial; do
        [ -d "$__old" ] && [ "$__old" != "$__work" ] || continue
        __holder=${__old#"$__tree."}
        if __has_ended "${__holder%.partial}" || [ -n "$(find "$__old" -prune -mtime +1)" ]; then
            rm -rf "$__old" 2>/dev/null
        fi
    done
}

# Whether $1, HOST.PID, is a process of this machine that has ended.
__has_ended() {
    [ "${1%.*}" = "$__host" ] && [ "${1##*.}" != $$ ] && ! kill -0 "${1##*.}" 2>/dev/null
}

__rename='import os, sys
os.sync()
try:
    os.rename(*sys.argv[1:])
except OSError:
    if not os.path.isdir(sys.argv[2]):
        raise'

__main "$@"
exit

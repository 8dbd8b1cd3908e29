#!/bin/sh
# Installs layers from @ADDRESS@ with a stackbuild that it downloads from there:
#
#     curl -fsSL @ADDRESS@/install.sh | sh -s -- LAYER --root DIR
#
# It needs sh, tar, gzip, curl or wget, and sha256sum, shasum or openssl. Arguments are those of
# `stackbuild install`. It is one function, so that a part of this file does nothing.
__main() {
    __address=@QUOTED@
    __system=$(uname -s) || exit
    __machine=$(uname -m) || exit
    case $__system-$__machine in
@SYSTEMS@        *) __fail "there is no stackbuild for $__system on $__machine at $__address" ;;
    esac
@CHECKSUM@
    __place=${STACKBUILD_BUNDLES-}
    if [ -z "$__place" ]; then
        case ${XDG_CACHE_HOME-} in
            /*) __place=$XDG_CACHE_HOME/stackbuild-bundles ;;
            *) __place=${HOME:+$HOME/$__caches/stackbuild-bundles} ;;
        esac
    fi
    [ -n "$__place" ] || __fail 'HOME is not set; set STACKBUILD_BUNDLES to a directory'
    mkdir -p "$__place" ||
        __fail "$__place cannot be created; set STACKBUILD_BUNDLES to another directory"
    __file=$__place/$__name
    if ! __is_right "$__file"; then
        __part=$__file.$$.partial
        trap 'rm -f "$__part"' EXIT
        trap 'exit 129' HUP
        trap 'exit 130' INT
        trap 'exit 143' TERM
        if command -v curl >/dev/null; then
            curl -fsSL --retry 3 -o "$__part" "$__address/bootstrap/$__name"
        elif command -v wget >/dev/null; then
            wget -q -O "$__part" "$__address/bootstrap/$__name"
        else
            __fail 'this machine has neither curl nor wget'
        fi || __fail "$__address/bootstrap/$__name cannot be downloaded"
        __is_right "$__part" || __fail "$__address/bootstrap/$__name is not the expected file
  expected: sha256 $__sha256
  found: sha256 ${__found%% *}"
        chmod +x "$__part" && mv "$__part" "$__file" || __fail "$__file cannot be created"
        trap - EXIT HUP INT TERM
        echo "stackbuild is $__file" >&2
    fi
    exec sh "$__file" install --from "$__address" "$@"
}

__is_right() {
    __found=
    [ -f "$1" ] && __found=$($__sum <"$1") && [ "${__found%% *}" = "$__sha256" ]
}

__fail() {
    printf 'install.sh: error: %s\n' "$1" >&2
    exit 125
}

__main "$@"

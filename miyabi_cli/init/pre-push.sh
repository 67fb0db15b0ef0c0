#!/bin/sh
# A hook of miyabi's: it reviews what is about to be pushed. `miyabi init --hook pre-push --remove` takes it away.
# Without --no-llm a model looks at it, too. `git push --no-verify` passes it by.

remote=$1
refs=$(cat) # githooks(5): <local ref> <local id> <remote ref> <remote id>, a line each

hook="${0%/*}/pre-push" # pre-commit calls it by another name
if [ -x "$hook@KEPT@" ]; then
    if [ -f "${hook%/*}/h" ]; then # husky's, which goes by its own name
        printf '%s\n' "$refs" | sh -c '. "$0@KEPT@"' "$hook" "$@" || exit $?
    else
        printf '%s\n' "$refs" | "$hook@KEPT@" "$@" || exit $?
    fi
fi

python=@PYTHON@
review() {
    if command -v miyabi >/dev/null 2>&1; then
        miyabi review "$@" --no-llm --quiet </dev/null
    elif [ -x "$python" ]; then
        "$python" -P -m miyabi_cli review "$@" --no-llm --quiet </dev/null
    else
        echo "miyabi is not there to review this push; git push --no-verify pushes without" >&2
        return 1
    fi
}

# The commit that a branch which is new at the remote begins after; the empty tree where the remote has nothing of it.
beginning() {
    oldest=$(git rev-list --topo-order "$1" --not --remotes="$remote" | tail -n 1)
    if [ -z "$oldest" ]; then
        echo "$1" # the remote has all of it
    else
        git rev-parse --verify --quiet "$oldest^" || git hash-object -t tree /dev/null
    fi
}

printf '%s\n' "$refs" | {
    status=0
    while read -r _ local _ there; do
        case $local in
            '' | *[!0]*) ;;
            *) continue ;; # a branch that is deleted
        esac
        [ -n "$local" ] || continue
        case $there in
            *[!0]*) git cat-file -e "$there" 2>/dev/null || there=0 ;; # not fetched: it is pushed over
        esac
        case $there in
            *[!0]*) range="$there...$local" ;;
            *) range="$(beginning "$local")..$local" ;;
        esac
        review "$range" || status=$?
    done
    exit "$status"
}

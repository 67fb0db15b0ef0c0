#!/bin/sh
# A hook of miyabi's: it reviews what is about to be committed. `miyabi init --hook pre-commit --remove` takes it away.
# Without --no-llm a model looks at it, too. `git commit --no-verify` passes it by.

hook="${0%/*}/pre-commit" # pre-commit calls it by another name
if [ -x "$hook@KEPT@" ]; then
    if [ -f "${hook%/*}/h" ]; then # husky's, which goes by its own name
        sh -c '. "$0@KEPT@"' "$hook" "$@" || exit $?
    else
        "$hook@KEPT@" "$@" || exit $?
    fi
fi

python=@PYTHON@
if command -v miyabi >/dev/null 2>&1; then
    exec miyabi review --staged --no-llm --quiet
elif [ -x "$python" ]; then
    exec "$python" -P -m miyabi_cli review --staged --no-llm --quiet
fi
echo "miyabi is not there to review this commit; git commit --no-verify commits without" >&2
exit 1

# Bash breaks words at colons and equals signs (COMP_WORDBREAKS): `gpt-oss:2` is three of its words, and what completes
# it replaces the last alone. So words that nothing parts are put together, and what is there already is taken off.
_miyabi_completion() {
    local IFS=$'\n' words=() bare word lead="" last=-1 i
    local rest=${COMP_LINE:-"${COMP_WORDS[*]}"}
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        bare=${rest#"${rest%%[![:space:]]*}"}
        if ((i > 0)) && [[ -n $word && $bare == "$rest" ]]; then
            lead=${words[last]}
            words[last]+=$word
        else
            lead=""
            words[++last]=$word
        fi
        rest=${bare#"$word"}
    done
    [[ $word == [:=] ]] && lead+=$word
    [[ $lead == -*=* ]] && lead=${lead#*=}
    COMPREPLY=( $( env COMP_WORDS="${words[*]}" \
                   COMP_CWORD=$last \
                   _MIYABI_COMPLETE=complete_bash "$1" ) )
    COMPREPLY=( "${COMPREPLY[@]#"$lead"}" )
    return 0
}

complete -o default -F _miyabi_completion miyabi
